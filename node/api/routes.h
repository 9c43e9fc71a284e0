/* Which handler serves which method and path.
 *
 * Pure. A pattern is a path of static segments and ":name" parameters. When several fit,
 * the one with more static segments wins, then the one whose static segments come first,
 * whatever the method: /exec/run is never the session "run", from-checkpoint never a
 * sandbox.
 */
#ifndef SHL_NODE_API_ROUTES_H
#define SHL_NODE_API_ROUTES_H

#include <stdbool.h>

#include "node/http/exchange.h"

struct node_call;

#define NODE_ROUTE_API    1u    /* under /api */
#define NODE_ROUTE_ROOT   2u    /* under / */
#define NODE_ROUTE_OPEN   4u    /* no credentials */
#define NODE_ROUTE_TOKEN  8u    /* a sandbox token of :id will do */
#define NODE_ROUTE_ADMIN  16u   /* an admin key only */
#define NODE_ROUTE_STREAM 32u   /* the handler takes the body as it comes */
#define NODE_ROUTE_SIGNED 64u   /* the signature of the URL in place of credentials (signed.h) */
#define NODE_ROUTE_LARGE  256u  /* the body may hold the manifest of an image */
#define NODE_ROUTE_SHOWS  512u  /* of a sandbox whose node is lost: answered as an error's record */
#define NODE_ROUTE_LOST   1024u /* is about such a sandbox */

#define NODE_ROUTE_SOCKET 128u /* a WebSocket, when it is asked for */

/* The operations on the inside of a sandbox: clients use both prefixes, and tokens. */
#define NODE_ROUTE_DATA (NODE_ROUTE_API | NODE_ROUTE_ROOT | NODE_ROUTE_TOKEN)

/* Which node serves it (node/api/routing.h). */
enum node_route_where {
    NODE_ROUTE_HERE,       /* the one that is asked */
    NODE_ROUTE_SANDBOX,    /* the owner of :id */
    NODE_ROUTE_CHECKPOINT, /* makes a new sandbox: one that has :cid */
    NODE_ROUTE_CREATE,     /* makes a new sandbox: one with room */
    NODE_ROUTE_LIST,       /* the one that is asked, with the help of all others */
};

struct node_route {
    enum node_method method;
    const char *pattern;
    enum node_route_where where;
    unsigned flags;
    void (*handle)(struct node_call *call);
};

struct node_route_match {
    const struct node_route *route; /* NULL: see is_path_known */
    const char *id;                 /* value of :id, NULL without */
    const char *sid;                /* value of :sid */
    const char *cid;                /* value of :cid */
    bool is_path_known;             /* other methods are served there */
    char allow[64];                 /* those methods, for the Allow header */
};

/* @routes ends with a NULL pattern. HEAD finds GET. */
void node_route_find(const struct node_route *routes,
                     enum node_method method,
                     const struct node_url *url,
                     struct node_route_match *ret);

/* All routes of the node. */
extern const struct node_route node_routes[];

#endif /* SHL_NODE_API_ROUTES_H */
