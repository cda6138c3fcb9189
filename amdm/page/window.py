"""A slider with two ends on the axis of noise levels, as an HTML component of gradio."""

from typing import Any

import gradio as gr

from amdm.page.levels import positions_of
from amdm.page.methods import HIGHEST, LOWEST

TEMPLATE = """
<div class="title">Window: joined at these noise levels</div>
<div class="axis">
  <div class="band" style="left: ${value[0] / 10}%; right: ${100 - value[1] / 10}%"></div>
  <input type="range" class="from" aria-label="window begins" min="0" max="1000" value="${value[0]}">
  <input type="range" class="to" aria-label="window ends" min="0" max="1000" value="${value[1]}">
</div>
<div class="ends"><span>HIGHEST (noise)</span><span>LOWEST (picture)</span></div>
"""
STYLE = """
padding: 6px 10px; border: 1px solid var(--block-border-color); border-radius: var(--block-radius);
.title { color: var(--block-label-text-color); margin-bottom: 4px; }
.axis { position: relative; height: 22px; }
.axis::before, .band { content: ""; position: absolute; top: 9px; height: 5px; border-radius: 3px; }
.axis::before { left: 0; right: 0; background: var(--neutral-200); }
.band { background: var(--slider-color); }
input { position: absolute; inset: 0; width: 100%; margin: 0; appearance: none; background: none;
        pointer-events: none; }
input::-webkit-slider-thumb { appearance: none; pointer-events: auto; width: 16px; height: 16px;
  border-radius: 50%; background: white; border: 2px solid var(--slider-color); cursor: ew-resize; }
input::-moz-range-thumb { pointer-events: auto; width: 13px; height: 13px; border-radius: 50%;
  background: white; border: 2px solid var(--slider-color); cursor: ew-resize; }
.ends { display: flex; justify-content: space-between; font-size: 12px;
        color: var(--body-text-color-subdued); }
"""
SCRIPT = """
const ends = () => ["from", "to"].map(name => element.querySelector("." + name));
element.addEventListener("input", event => {
  const [from, to] = ends();
  if (+from.value > +to.value) event.target.value = event.target === from ? to.value : from.value;
  const band = element.querySelector(".band");
  band.style.left = from.value / 10 + "%";
  band.style.right = 100 - to.value / 10 + "%";
});
element.addEventListener("change", event => {
  props.value = ends().map(end => +end.value);
  trigger("input");
});
"""


def slider(window: tuple[float, float], **options: Any) -> gr.HTML:
    """Return the slider, whose value is the positions of its ends; `amdm.page.levels` reads them."""
    return gr.HTML(
        positions_of(window),
        html_template=TEMPLATE.replace("HIGHEST", f"{HIGHEST:.3g}").replace("LOWEST", f"{LOWEST:.2g}"),
        css_template=STYLE,
        js_on_load=SCRIPT,
        **options,
    )
