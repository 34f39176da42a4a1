// Elements of the page.

/** @param {string} id @returns {HTMLElement} */
export const byId = (id) => document.getElementById(id);

/** Write a text, or hide its element where there is none. @param {string} id @param {?string} text */
export function tell(id, text) {
  byId(id).textContent = text ?? "";
  byId(id).hidden = !text;
}

/**
 * Make an element.
 * @param {string} name
 * @param {object} properties of it; `class` and attributes with a dash are written as such
 * @param {...(Node|string)} inner
 */
export function make(name, properties = {}, ...inner) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...inner);
  return element;
}

/** @param {string} name of the radio buttons */
export const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** @param {string} name of the radio buttons @param {() => void} then */
export function whenChosen(name, then) {
  for (const one of document.querySelectorAll(`input[name="${name}"]`)) one.addEventListener("change", then);
}

/** A badge that names the model that answered. @param {string} route */
export const badge = (route) => make("span", { className: `badge ${route}` }, `${route} model`);
