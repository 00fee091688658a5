"""How the page looks: a quiet darkroom, in light and dark, with one accent colour and one bundled typeface.

Owns colours, type and corners of Gradio's own controls; `assets/style.css` owns layout and everything Gradio has no
control for, and takes nearly all its colours from the theme's CSS variables.
"""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.colors import Color
from gradio.themes.utils.fonts import LocalFont

# Paper, card and ink: warm greys, as seen under a safelight.
PAPER = Color(
    "#faf9f7", "#f4f2ee", "#e9e5df", "#d8d2c9", "#b3aba0",
    "#8a8278", "#6b645b", "#45403a", "#282420", "#191613", "#0e0c0a",
)  # fmt: skip
# The safelight: the one accent.
SAFELIGHT = Color(
    "#fff3ee", "#ffe2d6", "#ffc3ad", "#ff9d7c", "#f9744b",
    "#e2552b", "#c2431d", "#9f3618", "#7f2d17", "#672716", "#381108",
)  # fmt: skip

TYPEFACE = "IBM Plex Sans"


def studio_theme() -> gr.themes.Base:
    """The theme; hand it to `launch`."""
    return gr.themes.Base(
        primary_hue=SAFELIGHT,
        secondary_hue=PAPER,
        neutral_hue=PAPER,
        font=[LocalFont(TYPEFACE, weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    ).set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="#131110",
        body_text_color="*neutral_900",
        body_text_color_dark="#ece7e0",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="#a59c90",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1b1816",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="#171513",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#332e2a",
        border_color_accent="*primary_500",
        border_color_accent_dark="*primary_500",
        color_accent="*primary_600",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="#3a1c12",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*neutral_800",
        block_label_text_color_dark="#ece7e0",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="#ece7e0",
        block_title_text_size="*text_sm",
        block_title_text_weight="600",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        block_info_text_size="12.5px",
        panel_background_fill="transparent",
        panel_background_fill_dark="transparent",
        panel_border_width="0px",
        layout_gap="18px",
        form_gap_width="0px",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1f1b19",
        input_background_fill_focus="#ffffff",
        input_background_fill_focus_dark="#231f1c",
        input_border_color="*neutral_300",
        input_border_color_dark="#3a342f",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_500",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_dark="none",
        input_shadow_focus="0 0 0 3px color-mix(in srgb, var(--primary-500) 18%, transparent)",
        input_shadow_focus_dark="0 0 0 3px color-mix(in srgb, var(--primary-500) 26%, transparent)",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="#7d756b",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
        checkbox_background_color="#ffffff",
        checkbox_background_color_dark="#1f1b19",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_500",
        checkbox_border_color_selected="*primary_600",
        checkbox_border_color_selected_dark="*primary_500",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_border_color_dark="#3a342f",
        checkbox_label_border_width="1px",
        checkbox_label_shadow="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="#cf4a22",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#231f1c",
        button_secondary_background_fill_hover="*neutral_50",
        button_secondary_background_fill_hover_dark="#2c2723",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#3a342f",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="#ece7e0",
        button_border_width="1px",
        button_transform_hover="none",
        button_large_radius="*radius_lg",
        button_small_radius="*radius_md",
    )
