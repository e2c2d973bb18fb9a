// Moves on from the page that signs people out of apps, when an app's frame does not load. Without this script a button does it.
"use strict";
(() => {
  const next = document.getElementById("logout-next");
  const patience = 5000; // milliseconds
  if (next) setTimeout(() => location.replace(next.href), patience);
})();
