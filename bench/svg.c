#include "bench/svg.h"

#include <errno.h>

#define WIDTH       860
#define MARGIN      28
#define LABEL_WIDTH 214
#define VALUE_WIDTH 150
#define BAR_X       (MARGIN + LABEL_WIDTH)
#define BAR_WIDTH   (WIDTH - MARGIN - BAR_X - VALUE_WIDTH)
#define ROW         26
#define BAR_HEIGHT  16
#define TITLE_AREA  62
#define PANEL_HEAD  56
#define PANEL_GAP   26
#define FOOT_AREA   44

static const char style[] =
    "  <style>\n"
    "    .page{fill:#ffffff} .card{fill:#f6f8fa;stroke:#d8dee4} text{fill:#1f2328}\n"
    "    text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif}\n"
    "    .note,.foot{fill:#59636e} .track{fill:#e4e8ed} .limit{stroke:#bf3989}\n"
    "    .c0{fill:#0969da} .c1{fill:#54aeff} .c2{fill:#bc4c00} .c3{fill:#e8a87c}\n"
    "    .h1{font-size:19px;font-weight:600} .h2{font-size:14px;font-weight:600}\n"
    "    .note,.foot{font-size:12px} .label,.value{font-size:12.5px} .value{font-weight:600}\n"
    "    @media (prefers-color-scheme:dark){\n"
    "      .page{fill:#0d1117} .card{fill:#151b23;stroke:#3d444d} text{fill:#f0f6fc}\n"
    "      .note,.foot{fill:#9198a1} .track{fill:#262c36} .limit{stroke:#f778ba}\n"
    "      .c0{fill:#4493f8} .c1{fill:#79c0ff} .c2{fill:#f0883e} .c3{fill:#ffb77c}\n"
    "    }\n"
    "  </style>\n";

static void put_text(FILE *file, const char *class, double x, double y, const char *text)
{
    (void)fprintf(file, "  <text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
    for (; *text; text++) {
        switch (*text) {
        case '<':
            (void)fputs("&lt;", file);
            break;
        case '>':
            (void)fputs("&gt;", file);
            break;
        case '&':
            (void)fputs("&amp;", file);
            break;
        default:
            (void)fputc(*text, file);
        }
    }
    (void)fputs("</text>\n", file);
}

static double panel_height(const struct bench_svg_panel *panel)
{
    return PANEL_HEAD + (double)panel->count * ROW + 14;
}

static double panel_max(const struct bench_svg_panel *panel)
{
    double max = panel->max > panel->bar ? panel->max : panel->bar;
    unsigned i;

    for (i = 0; panel->max <= 0 && i < panel->count; i++) {
        max = panel->bars[i].value > max ? panel->bars[i].value : max;
    }
    return max > 0 ? max : 1;
}

static void put_bar(FILE *file, const struct bench_svg_bar *bar, double max, double y)
{
    double share = bar->value / max;
    double width = BAR_WIDTH * (share > 1 ? 1 : share);

    put_text(file, "label", MARGIN + 16, y + BAR_HEIGHT - 4, bar->label);
    (void)fprintf(file,
                  "  <rect class=\"track\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" "
                  "rx=\"3\"/>\n"
                  "  <rect class=\"c%d\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" "
                  "rx=\"3\"/>\n",
                  BAR_X, y, BAR_WIDTH, BAR_HEIGHT, (int)bar->role, BAR_X, y, width < 2 ? 2 : width,
                  BAR_HEIGHT);
    put_text(file, "value", BAR_X + BAR_WIDTH + 10, y + BAR_HEIGHT - 4, bar->text);
}

static void put_panel(FILE *file, const struct bench_svg_panel *panel, double y)
{
    double max = panel_max(panel), height = panel_height(panel);
    unsigned i;

    (void)fprintf(file,
                  "  <rect class=\"card\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" "
                  "rx=\"8\"/>\n",
                  MARGIN, y, WIDTH - 2 * MARGIN, height);
    put_text(file, "h2", MARGIN + 16, y + 24, panel->title);
    put_text(file, "note", MARGIN + 16, y + 42, panel->note);
    for (i = 0; i < panel->count; i++) {
        put_bar(file, &panel->bars[i], max, y + PANEL_HEAD + (double)i * ROW);
    }
    if (panel->bar > 0) {
        double x = BAR_X + BAR_WIDTH * panel->bar / max;

        (void)fprintf(file,
                      "  <line class=\"limit\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
                      "stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>\n",
                      x, y + PANEL_HEAD - 5, x, y + height - 11);
    }
}

int bench_svg_write(const char *path,
                    const char *title,
                    const char *foot,
                    const struct bench_svg_panel *panels,
                    unsigned count)
{
    double height = TITLE_AREA + FOOT_AREA, y = TITLE_AREA;
    FILE *file = fopen(path, "w");
    unsigned i;

    if (!file) {
        return -errno;
    }
    for (i = 0; i < count; i++) {
        height += panel_height(&panels[i]) + (i + 1 < count ? PANEL_GAP : 0);
    }
    (void)fprintf(file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
                  "height=\"%.0f\" role=\"img\">\n%s"
                  "  <rect class=\"page\" width=\"%d\" height=\"%.0f\" rx=\"12\"/>\n",
                  WIDTH, height, WIDTH, height, style, WIDTH, height);
    put_text(file, "h1", MARGIN, 40, title);
    for (i = 0; i < count; i++) {
        put_panel(file, &panels[i], y);
        y += panel_height(&panels[i]) + PANEL_GAP;
    }
    put_text(file, "foot", MARGIN, height - 18, foot);
    (void)fputs("</svg>\n", file);
    return fclose(file) == 0 ? 0 : -EIO;
}
