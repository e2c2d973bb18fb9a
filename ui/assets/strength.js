// Says how hard a new password is to guess, while it is typed. Without this script the page says so when the form comes back.
"use strict";
(() => {
  const field = document.getElementById("password");
  const box = document.querySelector(".strength");
  const meter = box.querySelector("meter");
  const text = box.querySelector("output");
  const pause = 300; // milliseconds without a key before the server is asked
  const nothing = { score: 0, text: "" };
  let timer, question;

  const show = (judged) => {
    meter.value = judged.score;
    meter.hidden = box.querySelector("label").hidden = judged.score === 0;
    if (text.textContent !== judged.text) text.textContent = judged.text; // or screen readers would repeat it
  };

  // What stands in the fields about the person makes a password easier to guess.
  const about = (id) => document.getElementById(id)?.value ?? "";

  const ask = async () => {
    question = new AbortController();
    const body = new URLSearchParams({ password: field.value, email: about("email"), name: about("name") });
    const options = { method: "POST", body, signal: question.signal, credentials: "omit", headers: { "Accept-Language": document.documentElement.lang } };
    try {
      const answer = await fetch(box.dataset.ask, options);
      show(answer.ok ? await answer.json() : nothing);
    } catch {
      // A newer question, or no network: the form itself will tell.
    }
  };

  field.addEventListener("input", () => {
    clearTimeout(timer);
    question?.abort();
    if (field.value === "") show(nothing);
    else timer = setTimeout(ask, pause);
  });
})();
