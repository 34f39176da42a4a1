// Files that become pictures.

/** How the formats begin that the endpoint takes: PNG, JPEG, GIF and WEBP. */
const TAKEN = /^(\x89PNG|\xff\xd8\xff|GIF8|RIFF[^]{4}WEBP)/;

/**
 * Read a picture; what the browser can read and the endpoint does not take becomes a PNG.
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
  // By its bytes: what a picture is called is often not what it is.
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  if (TAKEN.test(head)) return pictureOf(name, bitmap, file);
  return pictureOf(`${name}.png`, bitmap, await png(bitmap));
}

async function pictureOf(name, bitmap, data) {
  return { name, bitmap, url: URL.createObjectURL(data), dataUrl: await dataUrl(data) };
}

function png(bitmap) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve, reject) => {
    const taken = (blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large.")));
    canvas.toBlob(taken, "image/png");
  });
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
