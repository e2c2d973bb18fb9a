// Signs in with, shows and adds passkeys (WebAuthn). Each form with data-passkey asks the server for a challenge, the browser for an answer,
// and posts it. Where the browser has no passkeys the form stays hidden.
"use strict";
(() => {
  if (!window.PublicKeyCredential || !navigator.credentials) return;
  const renew = 8 * 60 * 1000; // milliseconds; the server forgets a challenge after ten minutes
  const rounds = 7; // how often the offer in the email field is made anew

  const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const keys = (list) => (list ?? []).map((key) => ({ ...key, id: decode(key.id) }));

  // What both APIs take and give are buffers; on the way they are base64url (WebAuthn L3 §5.1.8, §5.1.9).
  const create = async (o, options) => {
    const publicKey = { ...o, challenge: decode(o.challenge), user: { ...o.user, id: decode(o.user.id) }, excludeCredentials: keys(o.excludeCredentials) };
    const made = await navigator.credentials.create({ ...options, publicKey });
    return written(made, { attestationObject: encode(made.response.attestationObject), transports: made.response.getTransports?.() ?? [] });
  };
  const get = async (o, options) => {
    const publicKey = { ...o, challenge: decode(o.challenge), allowCredentials: keys(o.allowCredentials) };
    const got = await navigator.credentials.get({ ...options, publicKey });
    const { authenticatorData, signature, userHandle } = got.response;
    return written(got, { authenticatorData: encode(authenticatorData), signature: encode(signature), userHandle: userHandle ? encode(userHandle) : undefined });
  };
  const written = (key, response) => JSON.stringify({
    id: key.id, rawId: encode(key.rawId), type: key.type, authenticatorAttachment: key.authenticatorAttachment ?? undefined,
    clientExtensionResults: {}, response: { clientDataJSON: encode(key.response.clientDataJSON), ...response },
  });

  const answer = async (form, options) => {
    const asked = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
    if (asked.type === "opaqueredirect") { // signed out, or too long ago: the server says where to go
      location.reload();
      return new Promise(() => {});
    }
    if (!asked.ok) throw new Error(`status ${asked.status}`);
    const publicKey = await asked.json();
    return form.dataset.passkey === "create" ? create(publicKey, options) : get(publicKey, options);
  };

  const send = (form, credential) => {
    form.elements.credential.value = credential;
    form.submit();
  };

  let offer; // the one behind the email field; a browser shows one request at a time

  // Lets the browser offer passkeys where the person fills in the address.
  const autofill = async (form, left) => {
    if (left === 0 || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
    const mine = offer = new AbortController();
    const timer = setTimeout(() => {
      mine.abort();
      autofill(form, left - 1);
    }, renew);
    try {
      send(form, await answer(form, { mediation: "conditional", signal: mine.signal }));
    } catch {
      // Given up for a press on a button, renewed, or not possible: the button and the password remain.
    } finally {
      clearTimeout(timer);
    }
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const status = form.querySelector("[role=status]");
    form.hidden = false;
    for (const missing of document.querySelectorAll(".no-passkeys")) missing.hidden = true;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      offer?.abort();
      status.textContent = "";
      form.setAttribute("aria-busy", "true");
      try {
        send(form, await answer(form, {}));
      } catch (failure) {
        status.textContent = failure.name === "InvalidStateError" ? status.dataset.known : status.dataset.failed;
        if (form.dataset.autofill) autofill(form, rounds);
      } finally {
        form.removeAttribute("aria-busy");
      }
    });
    if (form.dataset.autofill) autofill(form, rounds);
  }
})();
