// Files and folders that were dropped or picked, one after the other, however many there are.

// What a drop holds. Entries have to be taken before the event is over, so this is called at once and read later.
export function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean);
  return walked(entries);
}

export async function* picked(files) {
  for (const file of files) yield {file, name: file.webkitRelativePath || file.name};
}

export const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

// {file, name}, or {error, name} for what the browser could not read. name: the path from what was dropped.
async function* walked(entries) {
  for (const entry of entries) {
    if (entry instanceof File) yield {file: entry, name: entry.name};
    else if (entry.isFile) yield await opened(entry);
    else yield* inside(entry);
  }
}

async function* inside(folder) {
  const reader = folder.createReader();
  for (;;) {
    let batch; // browsers give a folder's entries by the hundred, and an empty batch at the end
    try {
      batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    } catch (error) {
      yield {error: error.message, name: pathOf(folder)};
      return;
    }
    if (!batch.length) return;
    yield* walked(batch);
  }
}

async function opened(entry) {
  try {
    return {file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name: pathOf(entry)};
  } catch (error) {
    return {error: error.message, name: pathOf(entry)};
  }
}

const pathOf = (entry) => entry.fullPath.replace(/^\/+/, "");
