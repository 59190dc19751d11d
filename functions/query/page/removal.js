// Documents that are to go: asked about once, then deleted a few at a time.

import {confirmed} from "./dialogs.js";
import {toast} from "./dom.js";
import {count, nameOf, plural} from "./format.js";

const AT_ONCE = 4;

// {gone: ids, failed: errors}, or null when the person thought better of it.
export async function removed(api, documents) {
  const one = documents.length === 1;
  const agreed = await confirmed({
    title: one ? `Delete ${nameOf(documents[0].uri)}?` : `Delete ${plural(documents.length, "document")}?`,
    text: one
      ? "No answer will use it from then on, and the bucket loses the file, too. This cannot be undone."
      : "No answer will use them from then on, and the bucket loses the files, too. This cannot be undone.",
    agree: one ? "Delete" : `Delete ${count(documents.length)}`,
  });
  if (!agreed) return null;
  const done = await each(api, documents);
  tell(documents, done);
  return done;
}

async function each(api, documents) {
  const waiting = [...documents];
  const done = {gone: [], failed: []};
  const work = async () => {
    for (let document = waiting.shift(); document; document = waiting.shift()) {
      try {
        await api.delete(`v1/documents/${document.id}`);
        done.gone.push(document.id);
      } catch (error) {
        done.failed.push(error);
      }
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, work));
  return done;
}

function tell(documents, {gone, failed}) {
  if (gone.length)
    toast(gone.length === 1 ? `Deleted ${nameOf(documents[0].uri)}` : `Deleted ${plural(gone.length, "document")}`);
  if (failed.length) toast(`${plural(failed.length, "document")} could not be deleted: ${failed[0].message}`, "bad");
}
