#include "agent/link.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

/* Reads of one turn, so that a busy node does not keep the loop from the rest. */
#define READS_PER_TURN 16

/* From now on everything up to the next HELLO is ignored. The parser stays in sync, so
 * file content under way is not searched for a HELLO. */
static void drop_link(struct agent_link *link, const char *why, int code)
{
    SHL_LOG(link->log, SHL_LOG_WARN, "link.drop", SHL_S("why", why),
            SHL_S("error", shl_err_name(code)), SHL_I("streams", link->mux->stream_count));
    agent_mux_drop_all(link->mux);
    link->connected = false;
}

static void answer_hello(struct agent_link *link, const struct agent_frame *frame)
{
    struct shl_mp_doc doc;
    struct shl_bytes token;
    struct shl_mp_writer w;
    struct shl_buf payload;

    if (shl_mp_parse(&doc, frame->payload) < 0) {
        return;
    }
    if (shl_mp_get_bin(doc.root, "token", &token) < 0 || token.len != AGENT_TOKEN_BYTES) {
        shl_mp_release(&doc);
        return;
    }
    agent_mux_drop_all(link->mux);
    shl_buf_init(&payload, AGENT_HELLO_MAX);
    shl_mp_writer_init(&w, &payload);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", AGENT_PROTOCOL_VERSION);
    shl_mp_kv_bin(&w, "token", token.base, token.len);
    shl_mp_kv_str(&w, "boot_id", link->boot_id);
    shl_mp_kv_str(&w, "agent", SHL_VERSION);
    shl_mp_end(&w);
    if (shl_mp_done(&w) == 0 && agent_frame_write(&link->mux->out, AGENT_FRAME_HELLO_ACK, 0, 0,
                                                  shl_buf_bytes(&payload)) == 0) {
        link->connected = true;
    }
    shl_buf_release(&payload);
    shl_mp_release(&doc);
}

void agent_link_frame(struct agent_link *link, const struct agent_frame *frame)
{
    int rc;

    if (frame->type == AGENT_FRAME_HELLO) {
        answer_hello(link, frame);
        return;
    }
    if (!link->connected) {
        return;
    }
    rc = agent_mux_frame(link->mux, frame);
    if (rc < 0) {
        drop_link(link, "the node sent a frame that is not allowed", rc);
    }
}

static bool peer_is_gone(int errnum)
{
    return errnum == EPIPE || errnum == ECONNRESET || errnum == ENODEV || errnum == EIO;
}

/* The other side is away. A port stays as it is: the kernel tells of a host that left
 * late, possibly after the HELLO of the next one was read and answered, so only that
 * HELLO may end streams. It is also right for a host that comes back from a restore. */
static void on_hangup(struct agent_link *link)
{
    if (!link->is_port) {
        agent_mux_drop_all(link->mux);
        agent_link_close(link);
        link->on_end(link->arg);
    }
}

static void write_out(struct agent_link *link)
{
    struct shl_buf *out = &link->mux->out;

    while (link->watch.fd >= 0 && shl_buf_len(out) > 0) {
        ssize_t put = write(link->watch.fd, shl_buf_data(out), shl_buf_len(out));

        if (put > 0) {
            shl_buf_consume(out, (size_t)put);
        } else if (put < 0 && errno == EINTR) {
            continue;
        } else if (put < 0 && peer_is_gone(errno)) {
            on_hangup(link);
            return;
        } else {
            return; /* full: the next edge of EPOLLOUT continues */
        }
    }
}

void agent_link_flush(struct agent_link *link)
{
    do {
        agent_mux_pump(link->mux);
        if (link->mux->error) {
            drop_link(link, "output could not be queued", link->mux->error);
        }
        write_out(link);
    } while (link->watch.fd >= 0 && shl_buf_len(&link->mux->out) == 0 &&
             !shl_list_empty(&link->mux->ready));
}

/* False when there is nothing more to read now. */
static bool read_once(struct agent_link *link)
{
    struct agent_frame frame;
    uint8_t *space;
    size_t room;
    ssize_t got;

    if (link->watch.fd < 0 || agent_parser_space(&link->parser, &space, &room) < 0) {
        return false;
    }
    got = read(link->watch.fd, space, room);
    if (got < 0 && errno == EINTR) {
        return true;
    }
    if (got == 0 || (got < 0 && peer_is_gone(errno))) {
        on_hangup(link);
    }
    if (got <= 0) {
        return false;
    }
    agent_parser_filled(&link->parser, (size_t)got);
    while (agent_parser_next(&link->parser, &frame)) {
        agent_link_frame(link, &frame);
    }
    return true;
}

static void read_in(struct agent_link *link)
{
    int i;

    for (i = 0; i < READS_PER_TURN; i++) {
        agent_link_flush(link);
        /* A node that asks and does not read has to wait; the edge of EPOLLOUT that
         * ends the wait comes here again. */
        if (shl_buf_len(&link->mux->out) >= AGENT_MUX_READ_BYTES || !read_once(link)) {
            return;
        }
    }
    agent_timer_start(link->loop, &link->resume, 0); /* there was no edge to wait for */
}

static void on_ready(void *arg, uint32_t events)
{
    (void)events;
    read_in(arg);
}

static void on_resume(void *arg)
{
    read_in(arg);
}

static void read_boot_id(struct agent_link *link)
{
    struct shl_buf text;
    size_t len;

    shl_buf_init(&text, sizeof(link->boot_id) - 1);
    if (shl_read_file("/proc/sys/kernel/random/boot_id", &text) == 0) {
        len = shl_buf_len(&text);
        memcpy(link->boot_id, shl_buf_data(&text), len);
        link->boot_id[len] = '\0';
        link->boot_id[strcspn(link->boot_id, "\n")] = '\0';
    }
    shl_buf_release(&text);
}

void agent_link_init(struct agent_link *link,
                     struct agent_loop *loop,
                     struct agent_mux *mux,
                     const struct shl_log *log)
{
    *link = (struct agent_link){.loop = loop, .mux = mux, .log = log};
    link->watch = (struct agent_watch){-1, on_ready, link};
    agent_parser_init(&link->parser, AGENT_FRAME_HELLO);
    agent_timer_init(&link->resume, on_resume, link);
    read_boot_id(link);
}

int agent_link_open(struct agent_link *link, int fd, bool is_port)
{
    link->is_port = is_port;
    /* Level-triggered, a port whose host side is away would report its hang-up for ever. */
    return agent_watch_add(link->loop, &link->watch, fd, EPOLLIN | EPOLLOUT | EPOLLET);
}

void agent_link_close(struct agent_link *link)
{
    int fd = link->watch.fd;

    agent_timer_stop(&link->resume);
    agent_watch_remove(link->loop, &link->watch);
    if (fd >= 0) {
        (void)close(fd);
    }
    agent_parser_release(&link->parser);
}
