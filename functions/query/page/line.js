// Requests go side by side until the API says that it is busy; then one after the other, in the order in which they were
// first made, so that what looks again and again takes nobody's turn.

const PATIENCE = 12;
const LONGEST_WAIT = 60;
const SPREAD_MS = 250;
const HELD_MS = 2000; // one that takes so long is no longer waited for

export class Line {
  #places = 0;
  #waiting = [];
  #busyUntil = 0;

  // What ask gives; again after 429, and after 503 where a time is named, unless that is too long for somebody who waits.
  // onWait is told how many seconds it is.
  async through(ask, {signal, onWait}) {
    const place = {number: (this.#places += 1), go: null};
    let holding = null;
    try {
      for (let attempt = 1; ; attempt += 1) {
        do {
          if (this.#waiting.length) await this.#turn(place, signal, onWait);
          await pause(this.#busyUntil - Date.now(), signal);
        } while (this.#waiting.length && this.#waiting[0] !== place); // somebody who came earlier was refused later
        holding = setTimeout(() => this.#leave(place), HELD_MS);
        try {
          return await ask();
        } catch (error) {
          const again = error.status === 429 || (error.status === 503 && error.retryAfter !== null);
          const wait = error.retryAfter ?? attempt;
          if (!again || attempt >= PATIENCE || wait > LONGEST_WAIT) throw error;
          const spread = Math.random() * SPREAD_MS; // other pages wait for the same moment
          this.#busyUntil = Math.max(this.#busyUntil, Date.now() + wait * 1000 + spread);
          this.#join(place);
          onWait?.(wait);
        } finally {
          clearTimeout(holding);
        }
      }
    } finally {
      this.#leave(place);
    }
  }

  #turn(place, signal, onWait) {
    this.#join(place);
    if (this.#waiting[0] === place) return;
    onWait?.(Math.max(1, (this.#busyUntil - Date.now()) / 1000));
    return new Promise((resolve, reject) => {
      const stop = () => reject(signal.reason);
      place.go = () => {
        signal?.removeEventListener("abort", stop);
        resolve();
      };
      if (signal?.aborted) stop();
      else signal?.addEventListener("abort", stop, {once: true});
    });
  }

  #join(place) {
    if (this.#waiting.includes(place)) return;
    this.#waiting.push(place);
    this.#waiting.sort((one, other) => one.number - other.number);
  }

  #leave(place) {
    const at = this.#waiting.indexOf(place);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    if (at === 0) this.#waiting[0]?.go?.();
  }
}

export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) reject(signal.reason);
    else if (ms <= 0) resolve();
    else {
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, ms);
      signal?.addEventListener("abort", stop, {once: true});
    }
  });
}
