// Files that become pictures.

/**
 * Read a picture.
 * @param {File} file
 * @returns {Promise<import("./conversation.js").Picture>}
 * @throws {Error} the browser cannot read it
 */
export async function readPicture(file) {
  const name = file.name || "pasted.png";
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${name} is not a picture that can be read here.`);
  }
  return { name, bitmap, url: URL.createObjectURL(file), dataUrl: await dataUrl(file) };
}

/** Give back what a picture holds. @param {import("./conversation.js").Picture} picture */
export function forget(picture) {
  URL.revokeObjectURL(picture.url);
  picture.bitmap.close();
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
