/* The daemon's side of a gateway: how one process of shoal-egress is told what it is to do.
 *
 * Process: `shoal-egress --dir DIR [--uid N --gid N] [--dns ADDR[:PORT]] [--trust FILE]
 * [--allow-private CIDR]... [--no-jail]`. It binds a TCP port for connections, a UDP port
 * for questions and a TCP port for the metadata service, all chosen by the kernel, and
 * DIR/EGRESS_CONTROL_SOCKET; then it gives up what it does not need. It outlives the daemon, as
 * sandboxes do: whoever connects to the socket next goes on with it. With neither daemon nor
 * guests it ends after EGRESS_CONTROL_ALONE_MS.
 *
 * Frames are those of vmm-kvm/control.h: uint32 little-endian length (<= the limit there), one
 * msgpack map; requests {id, op, ...}, replies {id, code, msg?, ...}. One client at a time, a
 * new one replaces the old one. Operations:
 *   hello     {} -> {version, port, dns_port, metadata_port}
 *   authority {fds: [pem]}: key and certificate of the authority, PEM in a file or memfd
 *   trust     {fds: [pem]}: certificates to verify servers with, instead of those from before
 *   private   {prefixes: [text]}: networks that may be reached although private, likewise
 *   guest     {address, sandbox, region, template, memory_bytes, began_ms, fds: [policy]}: its
 *             policy (policy.h) in a file or memfd, and what the metadata service says (sink.h)
 *   figures   {address, sandbox, cpu_permille?, memory_used_bytes, processes, net_in_bytes,
 *             net_out_bytes}: answer to the event below; without cpu_permille: there are none
 *   drop      {address}
 *   mark {}, sweep {}: guests that are not named between the two go
 *   stats     {} -> the counters of gateway.h
 *   quit      {}: end after the reply
 * Events, frames without id that the gateway sends: {event: "figures", address, sandbox}, when a
 * guest asks for its limits.
 */
#ifndef SHL_NODE_EGRESS_CONTROL_H
#define SHL_NODE_EGRESS_CONTROL_H

#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "base/log.h"

#define EGRESS_CONTROL_SOCKET   "egress.sock"
#define EGRESS_CONTROL_VERSION  2
#define EGRESS_CONTROL_ALONE_MS 60000
#define EGRESS_TRUST_DEFAULT    "/etc/ssl/certs/ca-certificates.crt"
#define EGRESS_TRUST_FILE_MAX   (8u * 1024 * 1024)

struct egress_control;
struct egress_gateway;
struct node_net_ports;

/* @listen_fd: bound and listening Unix socket; taken. @ports: for hello, copied. @on_quit
 * once, when the daemon says so or there is nobody. */
SHL_MUST_CHECK int egress_control_open(uv_loop_t *loop,
                                       int listen_fd,
                                       struct egress_gateway *gateway,
                                       const struct node_net_ports *ports,
                                       const struct shl_log *log,
                                       void (*on_quit)(void *arg),
                                       void *arg,
                                       struct egress_control **ret);
void egress_control_close(struct egress_control *control);

#endif /* SHL_NODE_EGRESS_CONTROL_H */
