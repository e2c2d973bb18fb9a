// Tells apps that ask by a message whether somebody has signed in or out here since (OpenID Connect Session Management 1.0 §3.2).
"use strict";
(() => {
  const cookie = document.currentScript.dataset.cookie + "=";
  const longest = 4096; // of what an app says

  const browserState = () => (document.cookie.split("; ").find((c) => c.startsWith(cookie)) || cookie).slice(cookie.length);

  const judge = async (message, origin) => {
    const asked = typeof message === "string" && message.length <= longest && /^(\S+) ([\w-]{43}\.([A-Z2-7]+))$/.exec(message);
    if (!asked || !crypto.subtle) return "error";
    const [, client, known, salt] = asked;
    const text = new TextEncoder().encode([client, origin, browserState(), salt].join(" "));
    const sum = String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-256", text)));
    const hash = btoa(sum).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    return hash + "." + salt === known ? "unchanged" : "changed";
  };

  addEventListener("message", async (event) => {
    if (!event.source || event.origin === "null") return; // nobody who could be told apart
    event.source.postMessage(await judge(event.data, event.origin), event.origin);
  });
})();
