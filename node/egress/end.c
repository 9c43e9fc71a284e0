#include "node/egress/end.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "base/err.h"
#include "node/egress/request.h"

#define READ_BYTES 16384       /* a record of TLS */
#define WIRE_BYTES (64 * 1024) /* records sent with one call */
#define RECORD_MAX (READ_BYTES + 1024)

void egress_end_init(struct egress_end *end)
{
    memset(end, 0, sizeof(*end));
    end->fd = -1;
    shl_buf_init(&end->in, EGRESS_IN_MAX + READ_BYTES);
    shl_buf_init(&end->out, EGRESS_OUT_MAX);
    shl_buf_init(&end->wire, WIRE_BYTES + RECORD_MAX);
}

void egress_end_release(struct egress_end *end)
{
    SSL_free(end->ssl);
    if (end->fd >= 0) {
        (void)close(end->fd);
    }
    shl_buf_wipe(&end->in);
    shl_buf_wipe(&end->out);
    shl_buf_release(&end->wire);
    end->ssl = NULL;
    end->fd = -1;
}

/* ---- TLS on a socket from which bytes were read already -------------------------- */

static int bio_read(BIO *bio, char *dst, size_t size, size_t *ret_len)
{
    struct egress_end *end = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (shl_buf_len(&end->in) > 0 && !SSL_is_init_finished(end->ssl)) {
        *ret_len = SHL_MIN(size, shl_buf_len(&end->in));
        memcpy(dst, shl_buf_data(&end->in), *ret_len);
        shl_buf_consume(&end->in, *ret_len);
        return 1;
    }
    n = recv(end->fd, dst, size, 0);
    *ret_len = n > 0 ? (size_t)n : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        BIO_set_retry_read(bio);
    }
    return n > 0;
}

/* 1 all sent, 0 later, negative broken. */
static int send_wire(struct egress_end *end)
{
    while (shl_buf_len(&end->wire) > 0) {
        ssize_t n = send(end->fd, shl_buf_data(&end->wire), shl_buf_len(&end->wire), MSG_NOSIGNAL);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        shl_buf_consume(&end->wire, (size_t)n);
    }
    return 1;
}

/* Records are gathered: sent one by one each would be a packet's way through the kernel. */
static int bio_write(BIO *bio, const char *src, size_t len, size_t *ret_len)
{
    struct egress_end *end = BIO_get_data(bio);
    int rc = 1;

    BIO_clear_retry_flags(bio);
    *ret_len = 0;
    if (shl_buf_len(&end->wire) >= WIRE_BYTES) {
        rc = send_wire(end);
    }
    if (rc == 0) {
        BIO_set_retry_write(bio);
    }
    if (rc == 1) {
        *ret_len = SHL_MIN(len, (size_t)RECORD_MAX);
        rc = shl_buf_append(&end->wire, src, *ret_len) == 0;
    }
    return rc == 1;
}

static long bio_flush(BIO *bio)
{
    int rc = send_wire(BIO_get_data(bio));

    BIO_clear_retry_flags(bio);
    if (rc == 0) {
        BIO_set_retry_write(bio);
    }
    return rc == 1 ? 1 : -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? bio_flush(bio) : 0;
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method; /* made once, for the life of the process */

    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "egress");
        if (method) {
            (void)BIO_meth_set_read_ex(method, bio_read);
            (void)BIO_meth_set_write_ex(method, bio_write);
            (void)BIO_meth_set_ctrl(method, bio_ctrl);
        }
    }
    return method;
}

int egress_end_secure(struct egress_end *end, SSL_CTX *ctx, bool as_server)
{
    BIO_METHOD *method = bio_method();
    BIO *bio = method ? BIO_new(method) : NULL;

    assert(!end->ssl);
    end->ssl = SSL_new(ctx);
    if (!bio || !end->ssl) {
        BIO_free(bio);
        SSL_free(end->ssl);
        end->ssl = NULL;
        return -ENOMEM;
    }
    BIO_set_data(bio, end);
    BIO_set_init(bio, 1);
    SSL_set_bio(end->ssl, bio, bio);
    if (as_server) {
        SSL_set_accept_state(end->ssl);
    } else {
        SSL_set_connect_state(end->ssl);
    }
    return 0;
}

/* What a call that did not succeed means: 0 later, 1 the end, negative broken. */
static int judge(struct egress_end *end, int result)
{
    int error = SSL_get_error(end->ssl, result);

    if (error == SSL_ERROR_WANT_READ) {
        end->blocked_read = true;
        return 0;
    }
    if (error == SSL_ERROR_WANT_WRITE) {
        end->blocked_write = true;
        return 0;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        return 1;
    }
    if (error == SSL_ERROR_SSL &&
        ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ERR_clear_error();
        end->cut = true;
        return 1;
    }
    return SHL_EPROTO;
}

int egress_end_handshake(struct egress_end *end)
{
    int result;

    end->blocked_read = end->blocked_write = false;
    ERR_clear_error();
    result = SSL_do_handshake(end->ssl);
    if (result == 1) {
        return 1;
    }
    return judge(end, result) == 0 ? 0 : SHL_EPROTO;
}

static ssize_t read_some(struct egress_end *end, uint8_t *dst, size_t size)
{
    size_t len = 0;
    ssize_t n;
    int result;

    if (!end->ssl) {
        n = recv(end->fd, dst, size, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            end->blocked_read = true;
            return 0;
        }
        end->read_closed = n == 0;
        return n < 0 ? -errno : n;
    }
    ERR_clear_error();
    result = SSL_read_ex(end->ssl, dst, size, &len);
    if (result == 1) {
        return (ssize_t)len;
    }
    result = judge(end, result);
    end->read_closed = result == 1;
    return result < 0 ? result : 0;
}

ssize_t egress_end_fill(struct egress_end *end)
{
    ssize_t total = 0;

    end->blocked_read = false;
    while (!end->read_closed && !end->blocked_read &&
           shl_buf_len(&end->in) <= EGRESS_IN_MAX - READ_BYTES) {
        uint8_t *space;
        size_t room = end->ssl ? READ_BYTES : EGRESS_IN_MAX - shl_buf_len(&end->in);
        ssize_t n;

        if (shl_buf_reserve(&end->in, room, &space) < 0) {
            return -ENOMEM;
        }
        n = read_some(end, space, room);
        if (n < 0) {
            return n;
        }
        shl_buf_commit(&end->in, (size_t)n);
        total += n;
        if (n == 0 || (!end->ssl && (size_t)n < room)) {
            break;
        }
    }
    return total;
}

static ssize_t write_some(struct egress_end *end, const uint8_t *src, size_t len)
{
    size_t written = 0;
    int result;

    if (!end->ssl) {
        ssize_t n = send(end->fd, src, len, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            end->blocked_write = true;
            return 0;
        }
        return n < 0 ? -errno : n;
    }
    ERR_clear_error();
    result = SSL_write_ex(end->ssl, src, len, &written);
    if (result == 1) {
        return (ssize_t)written;
    }
    return judge(end, result) == 0 ? 0 : -EPIPE;
}

ssize_t egress_end_flush(struct egress_end *end, struct shl_buf *from)
{
    ssize_t total = 0;

    end->blocked_write = false;
    while (shl_buf_len(from) > 0) {
        ssize_t n = write_some(end, shl_buf_data(from), shl_buf_len(from));

        if (n < 0) {
            return n;
        }
        if (n == 0) {
            break;
        }
        shl_buf_consume(from, (size_t)n);
        total += n;
    }
    if (end->ssl) {
        int rc = send_wire(end);

        if (rc < 0) {
            return rc;
        }
        end->blocked_write |= rc == 0;
    }
    return total;
}

void egress_end_shut(struct egress_end *end, bool with_farewell)
{
    if (end->write_closed || end->fd < 0) {
        return;
    }
    end->write_closed = true;
    if (end->ssl && with_farewell && SSL_is_init_finished(end->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(end->ssl);
    }
    (void)shutdown(end->fd, SHUT_WR);
}
