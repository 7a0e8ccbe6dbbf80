"""A mask that is painted over a picture, in the page: white is drawn anew, black stays."""

import base64
import binascii
from typing import Any

from PIL import Image

from vilex.app.uploads import read_picture
from vilex.errors import InputError
from vilex.extras import needs

with needs("app"):
    import gradio as gr

PREFIX = "data:image/png;base64,"
MOST = 2**20  # letters of a mask

TEMPLATE = """
<div class="painter">
  <div class="paper"><img alt="" hidden><canvas aria-label="Paint where the picture is drawn anew" hidden></canvas>
  <p>Put a picture in, then paint over it here what is to be drawn anew. Nothing painted: all of it is.</p></div>
  <label>Brush <input type="range" min="2" max="40" value="12"></label>
  <button type="button">Wipe the mask</button>
</div>
"""
CSS = """
.paper { position: relative; max-width: 320px; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-md); overflow: hidden; }
.paper p { margin: 0; padding: 24px 16px; color: var(--body-text-color-subdued); text-align: center; }
.paper img { display: block; width: 100%; } .paper img[hidden], .paper canvas[hidden] { display: none; }
.paper canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: .55; cursor: crosshair;
  touch-action: none; }
label { display: inline-flex; gap: 8px; align-items: center; margin: 8px 16px 0 0; }
button { padding: 2px 12px; border: 1px solid var(--border-color-primary); border-radius: var(--radius-md);
  font: inherit; background: none; color: inherit; }
"""
SCRIPT = """
const image = element.querySelector('img'), canvas = element.querySelector('canvas');
const hint = element.querySelector('p'), brush = element.querySelector('input');
const pen = canvas.getContext('2d');
let last = null, painted = false;

function tell() {
  if (!painted) { props.value = ''; return; }
  const flat = document.createElement('canvas');
  flat.width = canvas.width; flat.height = canvas.height;
  const paint = flat.getContext('2d');
  paint.fillStyle = 'black'; paint.fillRect(0, 0, flat.width, flat.height);
  paint.drawImage(canvas, 0, 0);
  props.value = flat.toDataURL('image/png');
}
function wipe() { pen.clearRect(0, 0, canvas.width, canvas.height); painted = false; tell(); }
function place(event) {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}
function paint(event) {
  const [x, y] = place(event);
  pen.strokeStyle = pen.fillStyle = 'white'; pen.lineCap = 'round';
  pen.lineWidth = brush.value / 100 * canvas.width * 2;
  pen.beginPath(); pen.moveTo(...(last || [x, y])); pen.lineTo(x + .01, y); pen.stroke();
  last = [x, y]; painted = true;
}
canvas.addEventListener('pointerdown', event => { canvas.setPointerCapture(event.pointerId); paint(event); });
canvas.addEventListener('pointermove', event => { if (last) paint(event); });
for (const end of ['pointerup', 'pointercancel'])
  canvas.addEventListener(end, () => { if (last) { last = null; tell(); } });
element.querySelector('button').addEventListener('click', wipe);
image.addEventListener('load', () => {
  const scale = Math.min(1, 512 / Math.max(image.naturalWidth, image.naturalHeight));
  canvas.width = Math.round(image.naturalWidth * scale); canvas.height = Math.round(image.naturalHeight * scale);
  image.hidden = canvas.hidden = false; hint.hidden = true; wipe();
});
window.vilexPaintOver = url => {
  if (url) { image.src = url; } else { image.hidden = canvas.hidden = true; hint.hidden = false; wipe(); }
};
"""
SHOW = "picture => { window.vilexPaintOver(picture && picture.url); return []; }"


def painter(start: Any) -> gr.HTML:
    """A canvas over the picture in the box `start`; its value is a PNG as a data URL, or nothing."""
    made = gr.HTML(
        "", html_template=TEMPLATE, css_template=CSS, js_on_load=SCRIPT, label="Mask", elem_id="mask", padding=True
    )
    start.change(None, start, None, js=SHOW, queue=False, api_visibility="private")
    return made


def read_mask(value: str | None, size: tuple[int, int]) -> Image.Image | None:
    """The painted mask at a picture's own size, as grey; None if nothing is painted.

    Raises:
        InputError: it is no PNG as a data URL, or too large.
    """
    if not value:
        return None
    if not isinstance(value, str) or not value.startswith(PREFIX) or len(value) > MOST:
        raise InputError(f"mask: expected a PNG as a data URL of at most {MOST} letters")
    try:
        content = base64.b64decode(value.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise InputError("mask: expected a PNG as a data URL") from None
    return read_picture(content, "mask", 512).convert("L").resize(size)
