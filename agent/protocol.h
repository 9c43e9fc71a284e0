/* The protocol between a node and the guest agent.
 *
 * One byte stream in each direction (a named virtio-serial port in the guest, a
 * Unix socket of the VMM on the node) carries frames:
 *
 *   offset size field
 *   0      4    magic "SHL1" (0x314c4853, little-endian like every field)
 *   4      1    type     enum agent_frame_type
 *   5      1    channel  of DATA and EOF, else 0: enum agent_channel
 *   6      2    zero
 *   8      4    stream   0 for HELLO and HELLO_ACK, else the id the node chose,
 *                        1..AGENT_STREAM_ID_MAX
 *   12     4    length   payload bytes, <= AGENT_PAYLOAD_MAX, of a REQUEST
 *                        <= AGENT_REQUEST_MAX
 *   16     ..   payload
 *   ..     4    trailer  length ^ stream ^ AGENT_TRAILER
 *
 * The transport loses nothing, but either end may vanish in the middle of a frame
 * (a killed daemon, a restore). So a node that connects first sends
 * AGENT_SYNC_BYTES zero bytes: they complete whatever frame was cut, whose trailer
 * then does not match (it is never zero, since stream ids stay below 2^31), so it is
 * dropped whole and never acted on. It follows with HELLO, carrying a fresh random
 * token. A receiver that met a bad frame skips bytes until a valid HELLO (agent) or
 * the HELLO_ACK with its own token (node; what came before may hold bytes of a guest's
 * file that look like one, see agent_parser_reject). A HELLO ends all streams of the
 * previous link; exec sessions live on. That the host side of the port was away ends
 * nothing by itself.
 *
 * Streams: the node opens one with REQUEST (msgpack map with "op"); DATA may flow
 * both ways; the agent ends it with exactly one RESPONSE. HEAD (msgpack) comes, for
 * the ops that have one, before the first DATA of the agent. Only DATA payload
 * counts against credit: each side starts with AGENT_WINDOW_BYTES to send on a
 * stream and gets more by CREDIT (payload: uint32 bytes). Sending beyond the credit
 * is a protocol error that ends the link: the agent drops all streams and ignores
 * everything up to the next HELLO. CANCEL (node) asks the agent to end the
 * stream early; it still answers with RESPONSE (code -ECANCELED). Frames for
 * streams that have ended are ignored.
 *
 * RESPONSE: {code: int, msg: str, ...}; code 0 is success, negative is a code of
 * base/err.h. Large results are never in RESPONSE: they are DATA.
 *
 * Operations (request fields -> HEAD, DATA, RESPONSE fields); "?" means optional:
 *
 *   setup       hostname, ip?, prefix?, gateway?, dns?[], mac?, machine_id?, entropy bin,
 *               time_ms, env{}, cwd?, sandbox, disk_bytes?, cpus?, memory_bytes?,
 *               trust?[{hash, pem}]
 *               -> {boot_ms, phases{name: ms}} since the kernel started. Once per boot
 *               before anything else (and again after a restore): entropy, clock,
 *               hostname, boot id, network (mac: of eth0), base environment, exactly the first
 *               `cpus` CPUs online, memory hot-plugged up to memory_bytes of the machine in
 *               use, root file system grown to the disk (both waited for: SHL_EINVALIDARG,
 *               -ETIMEDOUT when they do not come). What is absent stays as it is; env is
 *               replaced as a whole; trust: certificates that programs are to believe, added
 *               to the bundle and the folder of the distribution (hash: 8 digits, of the
 *               subject) and alone in AGENT_TRUST_FILE; cwd is where programs start that are
 *               given none ("": the home of the user sandbox, which also stands in when it is
 *               not there). A step that fails keeps none of the others from being done; the
 *               first failure is the answer. Then user processes that `freeze` stopped go on,
 *               also after a failure.
 *   freeze      sync?, fs?: user processes stop at once and stay stopped until thaw or
 *               setup, so that a snapshot taken now runs no user code before setup. sync:
 *               dirty file data goes to the disk first. fs: the root file system is
 *               frozen as well (for a snapshot of the disk alone): file.write and the like
 *               wait. exec.start waits too. Again is fine. -> {}; on an error nothing is
 *               frozen. A new link does not thaw: a node that takes a running guest over
 *               sends thaw (or setup).
 *   thaw        -> {} undoes freeze; fine when nothing is frozen.
 *               setup, freeze and thaw are done one after the other in the order they
 *               came, to their end, also when their stream or link is gone meanwhile.
 *   ping        -> {uptime_ms}
 *   exec.start  session, cmd, args?[], envs?{}, cwd?, timeout_ms?, user?, pipe_stdin?,
 *               keep_bytes? (per output stream), ring_bytes?, linger_ms?, tty?, cols?, rows?,
 *               program?
 *               -> {pid, started_at_ms}. Without args: /bin/sh -c cmd, or with `program` cmd
 *               itself, and then SHL_ENOTFOUND when there is no such program (SHL_EBADSTATE
 *               when it cannot be executed) and no session. A missing cwd is
 *               SHL_EINVALIDARG; a missing program is a session that exits with 127 (126
 *               when it cannot be executed). A session is known for 15 min after its
 *               end; when AGENT_SESSIONS_MAX are, the oldest ended one makes room, and
 *               SHL_EQUOTA means that all of them run. Output beyond keep_bytes is
 *               lost, and the output of the oldest ended sessions when an eighth of the
 *               guest's memory is full of it; exec.result says how much. session: 1 to
 *               AGENT_SESSION_ID_MAX of [A-Za-z0-9_-]; one that begins with _ is the node's
 *               own and in no list. user: a name of /etc/passwd.
 *               ring_bytes: keep the last of both output streams together instead of the
 *               first of each. linger_ms: ended when it has been without an attached
 *               client for so long, once there was one (a terminal: from its start). tty:
 *               a terminal of that size instead of pipes, all output is OUT; in no list.
 *   exec.attach session -> HEAD {running, tty, replay_bytes, lost_bytes}; then DATA on OUT and
 *               ERR: first replay_bytes of what there is, in its order, then what comes;
 *               RESPONSE {exit_code, timed_out, lost_bytes} when the session is done and all
 *               was sent. DATA of the node goes to its stdin, EOF ends that (not of a
 *               terminal). Any number of clients. Of a ring nothing is dropped that a client
 *               has not had: its program waits, at most AGENT_ATTACH_STALL_MS, then the
 *               client is ended with SHL_ELIMIT. It waits for the first client, too, but only
 *               AGENT_FIRST_CLIENT_MS. lost_bytes: what went before this client
 *               came, or what a session that is no ring did not keep.
 *   exec.input  session, then DATA and EOF from the node -> {} when all of it went to its stdin, in
 *               one piece: nothing of another client comes between. At most AGENT_INPUT_MAX
 *               (SHL_ELIMIT); SHL_EBADSTATE when its program has ended or reads no input. Nothing
 *               is written when the stream ends before its EOF.
 *   exec.end    session -> {} SIGTERM, for terminals SIGHUP, and SIGKILL after a grace;
 *               SHL_ENOTFOUND when it has ended or was asked to before
 *   exec.resize session, cols, rows -> {}; SHL_EBADSTATE when it has no terminal
 *   exec.result session, wait_ms? -> after exit or wait_ms, whichever is first:
 *               HEAD {running, exit_code?, truncated, stdout_bytes, stderr_bytes,
 *               timed_out, lost_stdout_bytes, lost_stderr_bytes}, then, only when not
 *               running, the output as DATA on channels OUT and ERR, then RESPONSE.
 *   exec.list   -> DATA: one msgpack map per session {session, cmd, args[], running,
 *               exit_code?, started_at_ms, attached}
 *   exec.kill   session, signal -> {} (to the process group; an ended one is fine)
 *               All of exec but start take only?: sessions with another cmd are not there.
 *   file.read   path -> HEAD {size, mode, regular}, DATA, RESPONSE. regular: exactly size
 *               bytes follow, or an error (SHL_EBADSTATE: it became shorter); otherwise
 *               a file of /proc or the like, whose size is not known before its end.
 *   file.write  path, then DATA and EOF from the node -> RESPONSE {size}; SHL_ECONFLICT when a
 *               later write of the same path took over
 *   file.list   path -> DATA: one map per entry {name, is_dir, size, mode, mtime_ms}, by name
 *   file.mkdir  path -> {}      file.remove path -> {}
 *   tcp.connect port, host? -> HEAD {} when connected; then the bytes of both directions as DATA on
 *               channel RAW. EOF of the node ends its direction (the server sees the end of its
 *               input), an EOF of the agent says that the server has sent all; RESPONSE when both
 *               have ended. host: localhost (the default: 127.0.0.1, ::1, then the guest's own
 *               address), 127.0.0.1 or ::1. Errors before HEAD: -ECONNREFUSED (nothing listens),
 *               -ETIMEDOUT (it listens and does not accept), SHL_EQUOTA (AGENT_TCP_MAX are open);
 *               after it: -ECONNRESET and the like.
 *   stats       sample_ms? -> {mem_total_bytes, mem_available_bytes, disk_total_bytes,
 *               disk_free_bytes, load_milli, processes, programs, cpu_permille}. programs:
 *               processes but for threads of the kernel. With sample_ms (at most
 *               AGENT_STATS_SAMPLE_MAX_MS) the answer comes after so long, and cpu_permille says
 *               how much the processors worked meanwhile: 1000 is one of them; else it is 0.
 *   shutdown    -> {} then the guest syncs and powers off.
 *
 * File errors: SHL_ENOTFOUND, SHL_EINVALIDARG ("is a directory: ...", "not a directory:
 * ...", "not a regular file: ..."), -ENOSPC, other -errno; msg is fit for a user. It may
 * hold bytes of a path that are no UTF-8.
 *
 * Paths: absolute, or relative to the home of user sandbox. exit_code: 0..255, 128 + N
 * for death by signal N, -1 for a timeout.
 *
 * boot_id of HELLO_ACK is the kernel's: a restore does not change it, a boot does. What
 * programs of the guest see is another one, see agent/boot_id.h.
 */
#ifndef SHL_AGENT_PROTOCOL_H
#define SHL_AGENT_PROTOCOL_H

#include <stdint.h>

#define AGENT_PORT_NAME        "org.shoal.agent.0" /* /dev/virtio-ports/ name, <= 31 bytes */
#define AGENT_PROTOCOL_VERSION 1

#define AGENT_MAGIC               0x314c4853u
#define AGENT_TRAILER             0xa7c35a1eu
#define AGENT_HEADER_BYTES        16u
#define AGENT_TRAILER_BYTES       4u
#define AGENT_PAYLOAD_MAX         65536u
#define AGENT_REQUEST_MAX         (160u * 1024) /* the longest argument Linux takes, and more */
#define AGENT_FRAME_MAX           (AGENT_HEADER_BYTES + AGENT_REQUEST_MAX + AGENT_TRAILER_BYTES)
#define AGENT_SYNC_BYTES          AGENT_FRAME_MAX
#define AGENT_WINDOW_BYTES        (256u * 1024)
#define AGENT_HELLO_MAX           1024u /* payload of HELLO and HELLO_ACK */
#define AGENT_STREAMS_MAX         256u
#define AGENT_STREAM_ID_MAX       0x7fffffffu
#define AGENT_TOKEN_BYTES         16u
#define AGENT_SESSIONS_MAX        1024u
#define AGENT_SESSION_ID_MAX      32u
#define AGENT_PATH_MAX            4096u
#define AGENT_INPUT_MAX           (2u * 1024 * 1024)
#define AGENT_KEEP_DEFAULT_BYTES  (16u * 1024 * 1024)
#define AGENT_RING_MIN_BYTES      (128u * 1024)
#define AGENT_RING_DEFAULT_BYTES  (1024u * 1024)
#define AGENT_ATTACH_STALL_MS     (5u * 60 * 1000)
#define AGENT_FIRST_CLIENT_MS     (10u * 1000)
#define AGENT_EXEC_TIMEOUT_MAX_MS (24u * 3600 * 1000)
#define AGENT_STATS_SAMPLE_MAX_MS 10000u

enum agent_frame_type {
    AGENT_FRAME_HELLO = 1,     /* node: {version, token bin} */
    AGENT_FRAME_HELLO_ACK = 2, /* agent: {version, token bin, boot_id, agent} */
    AGENT_FRAME_REQUEST = 3,
    AGENT_FRAME_HEAD = 4,
    AGENT_FRAME_DATA = 5,
    AGENT_FRAME_EOF = 6,
    AGENT_FRAME_CREDIT = 7,
    AGENT_FRAME_CANCEL = 8,
    AGENT_FRAME_RESPONSE = 9,
};

enum agent_channel {
    AGENT_CHANNEL_RAW = 0, /* files, lists, stdin */
    AGENT_CHANNEL_OUT = 1,
    AGENT_CHANNEL_ERR = 2,
};

/* Where certificates of `trust` are found. */
#define AGENT_TRUST_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
#define AGENT_TRUST_FOLDER "/etc/ssl/certs"
#define AGENT_TRUST_SOURCE "/usr/local/share/ca-certificates" /* of update-ca-certificates */
#define AGENT_TRUST_FILE   "/usr/local/share/ca-certificates/shoal-egress.pem"
#define AGENT_TRUST_MAX    16           /* certificates */
#define AGENT_TRUST_BYTES  (64u * 1024) /* of all of them */

#endif /* SHL_AGENT_PROTOCOL_H */
