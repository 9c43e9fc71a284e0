/* What a step of an image does in the sandbox that builds it: programs and files, in order.
 *
 * Pure. No text of a manifest becomes part of shell text, except the commands of "run" steps,
 * which are shell text: packages, paths and values are arguments of programs.
 */
#ifndef SHL_NODE_IMAGE_ACTIONS_H
#define SHL_NODE_IMAGE_ACTIONS_H

#include <stdbool.h>

#include "base/buf.h"
#include "node/image/manifest.h"

struct image_action {
    bool is_write;
    /* a program */
    char **argv; /* heap, all of it */
    size_t argc;
    bool as_root;        /* else the sandbox's user, in the working directory */
    const char *envs[6]; /* name, value, ...; NULL ends */
    /* a file */
    char *path; /* heap */
    uint8_t *content;
    size_t content_len;
};

/* Action @index (from 0) of @step: 1, 0 when there are no more, or -ENOMEM. Release after 1. */
SHL_MUST_CHECK int image_action_get(struct image_step *step,
                                    size_t index,
                                    struct image_action *ret);
void image_action_release(struct image_action *action);

/* What the step does, for people: "apt_install jq curl", in one line below @size. */
void image_step_describe(const struct image_step *step, char *dst, size_t size);

#endif /* SHL_NODE_IMAGE_ACTIONS_H */
