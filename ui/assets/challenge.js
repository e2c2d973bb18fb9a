// Solves the challenge of a form, in a worker beside the page, so that nothing stalls while somebody types. Without this
// script the form still counts when it has waited long enough (internal/challenge).
"use strict";
(() => {
  // SHA-256 (FIPS 180-4) of one block: sixteen bytes and a number in decimal. crypto.subtle would be slower: it answers
  // each call by a promise.
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => ((x - Math.floor(x)) * 0x100000000) | 0;
  const K = Int32Array.from(primes, (p) => fraction(Math.cbrt(p)));
  const H = Int32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p)));
  const W = new Int32Array(64);
  const block = new DataView(new ArrayBuffer(64));

  const compress = (out) => {
    for (let i = 0; i < 16; i++) W[i] = block.getInt32(4 * i);
    for (let i = 16; i < 64; i++) {
      const x = W[i - 15], y = W[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      W[i] = (W[i - 16] + s0 + W[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = H;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    out[0] = (H[0] + a) | 0; out[1] = (H[1] + b) | 0; out[2] = (H[2] + c) | 0; out[3] = (H[3] + d) | 0;
  };

  // The search goes on where it left off: next(count) tries so many numbers and gives the right one, or -1.
  const search = (challenge) => {
    const raw = Uint8Array.from(atob(challenge.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const view = new DataView(raw.buffer);
    const effort = view.getUint32(9);
    const target = [29, 33, 37, 41].map((at) => view.getInt32(at));
    const sum = new Int32Array(4);
    let n = 0;
    return (count) => {
      for (const end = Math.min(effort, n + count); n < end; n++) {
        const digits = String(n);
        for (let i = 0; i < 64; i++) block.setUint8(i, 0);
        for (let i = 0; i < 16; i++) block.setUint8(i, raw[13 + i]);
        for (let i = 0; i < digits.length; i++) block.setUint8(16 + i, digits.charCodeAt(i));
        block.setUint8(16 + digits.length, 0x80);
        block.setUint32(60, 8 * (16 + digits.length));
        compress(sum);
        if (sum[0] === target[0] && sum[1] === target[1] && sum[2] === target[2] && sum[3] === target[3]) return n;
      }
      return -1;
    };
  };

  if (typeof document === "undefined") { // the worker
    onmessage = ({ data }) => postMessage(search(data)(Infinity));
    return;
  }

  const field = document.querySelector("input[data-challenge]");
  if (!field) return;
  const form = field.form;
  const challenge = field.value;
  const status = document.getElementById("challenge-status");
  let solved = false;
  let waiting = null; // the button that was pressed before the answer was there

  const done = (n) => {
    solved = true;
    if (n >= 0) field.value = challenge + "." + n;
    status.textContent = "";
    if (waiting) form.requestSubmit(waiting === true ? undefined : waiting);
  };

  // Where there are no workers: a little at a time, so that the page can be used meanwhile.
  const chunks = () => {
    const next = search(challenge);
    const step = () => {
      const n = next(2000);
      if (n < 0) setTimeout(step);
      else done(n);
    };
    step();
  };

  form.addEventListener("submit", (event) => {
    if (solved) return;
    event.preventDefault();
    waiting = event.submitter ?? true;
    status.textContent = status.dataset.busy;
  });

  try {
    const worker = new Worker(field.dataset.challenge);
    worker.onmessage = ({ data }) => { worker.terminate(); done(data); };
    worker.onerror = chunks;
    worker.postMessage(challenge);
  } catch {
    chunks();
  }
})();
