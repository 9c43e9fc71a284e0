#include "hello_bytes.h"

#include <assert.h>
#include <string.h>

#include <openssl/ssl.h>

size_t hello_make(uint8_t *dst, size_t size, const char *name, const char *alpn)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    int len;

    assert(ssl && in && out);
    SSL_set_bio(ssl, in, out);
    if (name) {
        SSL_set_tlsext_host_name(ssl, name);
    }
    if (alpn) {
        SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    }
    (void)SSL_connect(ssl);
    len = BIO_read(out, dst, (int)size);
    assert(len > 0);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return (size_t)len;
}

size_t hello_split(uint8_t *dst, size_t size, const uint8_t *hello, size_t len, size_t part)
{
    size_t at = 5, to = 0;

    while (at < len) {
        size_t n = part < len - at ? part : len - at;

        assert(to + 5 + n <= size);
        dst[to] = 22;
        dst[to + 1] = 3;
        dst[to + 2] = 1;
        dst[to + 3] = (uint8_t)(n >> 8);
        dst[to + 4] = (uint8_t)n;
        memcpy(dst + to + 5, hello + at, n);
        to += 5 + n;
        at += n;
    }
    return to;
}
