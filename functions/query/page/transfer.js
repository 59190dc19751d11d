// One request, sent so that one hears how much of it has gone; and what can go wrong with requests.

export class Problem extends Error {
  constructor(status, detail, retryAfter = null, type = "") {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
    this.type = type;
  }
}

// No answer: status 0, unless somebody gave up.
export function lost(error, detail = "The API cannot be reached. Is the connection up?") {
  return error?.name === "AbortError" ? error : new Problem(0, detail);
}

// {status, text, header(name)}, whatever the status is. onProgress gets the bytes that were sent.
export function transferred(method, url, {headers = {}, body, signal, onProgress = () => {}}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not say how much was sent
    const abort = () => request.abort();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () =>
      resolve({
        status: request.status,
        text: request.responseText,
        header: (name) => request.getResponseHeader(name),
      });
    request.onerror = () => reject(lost());
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.send(body);
  });
}
