"""The page: its tabs, its looks."""

import os

from vilex.app.compose import compose_tab
from vilex.app.examples import Examples
from vilex.app.explore import explore_tab
from vilex.app.mix import mix_tab
from vilex.app.recreate import recreate_tab
from vilex.app.studio import Studio
from vilex.extras import needs

with needs("app"):
    import gradio as gr

TABS = {"Re-create": recreate_tab, "Compose": compose_tab, "Mix": mix_tab, "Explore": explore_tab}
CSS = """
.gradio-container { max-width: 1200px !important; }
.said { border: none !important; background: none !important; box-shadow: none !important; }
.said textarea { border: none !important; background: none !important; box-shadow: none !important; padding: 2px 0;
  color: var(--body-text-color); -webkit-text-fill-color: currentColor; opacity: 1; }
.pictures .caption-label { position: static; max-width: none; border: none; border-radius: 0; padding: 4px 2px;
  font-size: var(--text-sm); white-space: normal; text-align: center; background: none; }
.pictures .thumbnail-lg { aspect-ratio: auto; height: auto; display: flex; flex-direction: column; }
.pictures .thumbnail-lg img { height: auto; aspect-ratio: 1; }
.pictures .grid-wrap { height: auto; min-height: 0; max-height: none; }
.pictures .gallery-container:has(.preview) { min-height: 420px; }
footer .divider { display: none; }
@media (max-width: 640px) {
  .gradio-container .main { padding: 12px !important; }
  .tab-container button { padding: 0 8px !important; }
  .pictures .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
}
"""


def theme() -> gr.themes.Default:
    """Gradio's own looks, in fonts that every machine has."""
    return gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def build_page(studio: Studio) -> gr.Blocks:
    """All tabs around one studio."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.files.root)  # where gradio looks for uploads and keeps its own files
    examples = Examples(studio)
    with gr.Blocks(title="vilex", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(f"# vilex\nPictures as words of a text-to-image model: `{studio.about.get('model', 'a model')}`.")
        with gr.Tabs():
            for name, tab in TABS.items():
                with gr.Tab(name):
                    tab(studio, examples)
        page.unload(_leave(studio))
    page.queue(max_size=studio.limits.waiting, default_concurrency_limit=4, api_open=False)
    return page


def _leave(studio: Studio):  # type: ignore[no-untyped-def]
    def leave(request: gr.Request) -> None:
        """A page that is closed needs nothing drawn any more."""
        studio.desk.stop(request.session_hash or "", wait=0)

    return leave
