/* Bar charts as one SVG file: panels below each other, each with a title, a note and labelled
 * horizontal bars. Colours follow the reader's light or dark scheme. Bars carry the value as
 * text, so the picture reads without an axis. */
#ifndef SHL_BENCH_SVG_H
#define SHL_BENCH_SVG_H

#include <stdio.h>

/* Who a bar belongs to: its colour. */
enum bench_svg_role {
    BENCH_SVG_OURS,
    BENCH_SVG_OURS_LIGHT,
    BENCH_SVG_OTHER,
    BENCH_SVG_OTHER_LIGHT,
};

struct bench_svg_bar {
    const char *label;
    const char *text; /* the value as it is to be read */
    double value;     /* >= 0 */
    enum bench_svg_role role;
};

struct bench_svg_panel {
    const char *title;
    const char *note;
    double max; /* full width; 0: the largest value */
    double bar; /* draw a line at this value; 0: none */
    const struct bench_svg_bar *bars;
    unsigned count;
};

/* 0 or -errno. */
int bench_svg_write(const char *path,
                    const char *title,
                    const char *foot,
                    const struct bench_svg_panel *panels,
                    unsigned count);

#endif /* SHL_BENCH_SVG_H */
