
"use strict";
(function () {
  // SHA-256 (FIPS 180-4). The browser's own works in secure contexts only, and waits for each hash.
  function roots(count) {
    var primes = [], n, fraction = function (x) { return ((x - Math.floor(x)) * 4294967296) | 0; };
    for (n = 2; primes.length < count; n++) {
      if (primes.every(function (p) { return n % p; })) primes.push(n);
    }
    return {
      k: primes.map(function (p) { return fraction(Math.cbrt(p)); }),
      h: primes.slice(0, 8).map(function (p) { return fraction(Math.sqrt(p)); })
    };
  }
  var constants = roots(64), w = new Int32Array(64);
  function turn(x, n) { return (x >>> n) | (x << (32 - n)); }
  // The first word of the hash; the text is ASCII.
  function hash(text) {
    var length = text.length, words = new Int32Array(((length + 8) >> 6) * 16 + 16), state = constants.h.slice(), i, at;
    for (i = 0; i < length; i++) words[i >> 2] |= text.charCodeAt(i) << (24 - (i & 3) * 8);
    words[length >> 2] |= 128 << (24 - (length & 3) * 8);
    words[words.length - 1] = length * 8;
    for (at = 0; at < words.length; at += 16) {
      var v = state.slice();
      for (i = 0; i < 64; i++) {
        if (i < 16) {
          w[i] = words[at + i];
        } else {
          var a = w[i - 15], b = w[i - 2];
          w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
        }
        var one = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
          constants.k[i] + w[i];
        var two = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        v = [(one + two) | 0, v[0], v[1], v[2], (v[3] + one) | 0, v[4], v[5], v[6]];
      }
      for (i = 0; i < 8; i++) state[i] = (state[i] + v[i]) | 0;
    }
    return state[0] >>> 0;
  }
  var said = document.getElementById("said"), task = said.dataset, most = Math.pow(2, 32 - Number(task.difficulty));
  var next = 0;
  // In pieces, so that the page stays alive.
  function work() {
    var until = Date.now() + 50;
    do {
      var answer = task.token + "." + next.toString(36);
      if (hash(answer) < most) {
        document.cookie = task.cookie + "=" + answer + task.attributes;
        if (document.cookie.indexOf(task.cookie + "=") < 0) {
          said.textContent = "This site needs cookies: allow them, and load the page again.";
        } else {
          location.reload();
        }
        return;
      }
      next += 1;
    } while (Date.now() < until);
    setTimeout(work, 0);
  }
  work();
})();
