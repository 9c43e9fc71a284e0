/* Requests for preview hosts: taken to the sandbox and passed on to its server.
 *
 * They come in beside the routes of the API, by their Host header, and are not authenticated
 * there: the owner of the sandbox asks for its preview token, if it has one. From then on they are
 * calls like others, so that the node that has the sandbox serves them and a hibernated one is
 * woken.
 */
#ifndef SHL_NODE_API_PREVIEW_H
#define SHL_NODE_API_PREVIEW_H

#include "node/api/call.h"

#define NODE_PREVIEW_HEAD_TIMEOUT_MS 300000 /* connected, and no head of an answer: 504 */
#define NODE_PREVIEW_STALL_MS        3000   /* an upload that the server does not read on */

/* The call's route for previews. */
extern const struct node_route node_preview_route;

#endif /* SHL_NODE_API_PREVIEW_H */
