// Lists text with a contrast below 4.5:1 (large text: 3:1), and borders of fields and buttons below
// 3:1. The bounds are those of WCAG 2.2, success criteria 1.4.3 and 1.4.11. Disabled controls are
// exempt.

const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const context = canvas.getContext("2d", { willReadFrequently: true });

/** Red, green and blue of colours painted over each other, lowest first. */
const painted = (colours) => {
  for (const colour of colours) {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
  }
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};

const luminance = (colour) => {
  const [red, green, blue] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};

const ratio = (one, other) => {
  const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
};

/** Colours beneath an element's content, lowest first. */
const beneath = (element) => {
  const layers = ["white"];
  const chain = [];
  for (let node = element; node; node = node.parentElement) {
    chain.unshift(getComputedStyle(node).backgroundColor);
    if (node.tagName === "DIALOG") break;
  }
  return layers.concat(chain);
};

const found = [];
const judge = (element, what, colour, background, least) => {
  const reached = ratio(painted([...background, colour]), painted(background));
  if (reached < least) found.push(`${what} ${reached.toFixed(2)} of ${least}: ${element.outerHTML.slice(0, 80)}`);
};

const visible = (element) =>
  element.checkVisibility({ visibilityProperty: true }) && !element.closest(":disabled, .visually-hidden, .skip");

let texts = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !visible(element)) continue;
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  judge(element, "text", style.color, beneath(element), large ? 3 : 4.5);
  texts += 1;
}
if (texts < 10) found.push(`only ${texts} texts were looked at`);

for (const field of document.querySelectorAll("input:not([type=checkbox]), textarea, button")) {
  const style = getComputedStyle(field);
  if (!visible(field)) continue;
  if (field.placeholder && !field.value) {
    judge(field, "placeholder", getComputedStyle(field, "::placeholder").color, beneath(field), 4.5);
  }
  // A button without a border is recognised by its text, which is judged above.
  const border = style.borderTopColor;
  if (style.borderTopWidth !== "0px" && !/, 0\)$|transparent/.test(border)) {
    judge(field, "border", border, beneath(field.parentElement), 3);
  }
}
return found;
