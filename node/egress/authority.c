#include "node/egress/authority.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/list.h"
#include "base/sum.h"
#include "node/egress/address.h"
#include "node/egress/host.h"

#define AUTHORITY_DAYS 3650
#define LEAF_DAYS      30
#define LEAF_RENEW_S   (10 * 86400) /* a kept leaf is made anew when it has less left */
#define BACKDATED_S    86400        /* clocks of guests may be behind */
#define SERIAL_BYTES   16
#define BUCKETS        256

struct leaf {
    struct shl_list by_use;
    struct leaf *next; /* in its bucket */
    char host[EGRESS_HOST_SIZE];
    X509 *certificate;
    time_t until;
};

struct egress_authority {
    EVP_PKEY *key;
    X509 *certificate;
    EVP_PKEY *leaf_key;
    struct leaf *buckets[BUCKETS];
    struct shl_list by_use; /* the first one was used last */
    size_t count;
};

static int set_serial(X509 *x)
{
    uint8_t bytes[SERIAL_BYTES];
    BIGNUM *number;
    int ok;

    shl_random_bytes(bytes, sizeof(bytes));
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
    number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) != NULL;
    BN_free(number);
    return ok;
}

static int add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;
    int ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = extension && X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static int set_name(X509 *x, const char *common, X509_NAME *issuer)
{
    X509_NAME *name = X509_get_subject_name(x);
    int ok =
        X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)"Shoal", -1, -1, 0) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common, -1, -1, 0);

    return ok && X509_set_issuer_name(x, issuer ? issuer : name);
}

static int set_times(X509 *x, long days)
{
    return X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATED_S) &&
           X509_gmtime_adj(X509_getm_notAfter(x), days * 86400);
}

static X509 *make_authority(EVP_PKEY *key)
{
    char name[64], digits[9];
    uint8_t random[4];
    X509 *x = X509_new();

    shl_random_bytes(random, sizeof(random));
    shl_hex_encode(digits, random, sizeof(random));
    (void)snprintf(name, sizeof(name), "Shoal egress %s", digits);
    if (x && X509_set_version(x, X509_VERSION_3) && set_serial(x) && set_name(x, name, NULL) &&
        set_times(x, AUTHORITY_DAYS) && X509_set_pubkey(x, key) &&
        add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(x, x, NID_subject_key_identifier, "hash") &&
        X509_sign(x, key, EVP_sha256()) > 0) {
        return x;
    }
    X509_free(x);
    return NULL;
}

int egress_authority_make(struct shl_buf *pem, struct shl_err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? make_authority(key) : NULL;
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text;
    long len;
    int rc;

    if (!x || !bio || !PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) ||
        !PEM_write_bio_X509(bio, x)) {
        rc = shl_err_set(err, -EIO, "a key for intercepting TLS could not be made");
    } else {
        len = BIO_get_mem_data(bio, &text);
        rc = shl_buf_append(pem, text, (size_t)len);
    }
    BIO_free(bio);
    X509_free(x);
    EVP_PKEY_free(key);
    return rc;
}

/* Never asks for a passphrase on a terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static X509 *read_certificate(struct shl_bytes pem)
{
    BIO *bio = pem.len <= EGRESS_AUTHORITY_PEM_MAX ? BIO_new_mem_buf(pem.base, (int)pem.len) : NULL;
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;

    BIO_free(bio);
    return x;
}

int egress_authority_open(struct shl_bytes pem, struct egress_authority **ret, struct shl_err *err)
{
    struct egress_authority *authority = calloc(1, sizeof(*authority));
    BIO *bio = pem.len <= EGRESS_AUTHORITY_PEM_MAX ? BIO_new_mem_buf(pem.base, (int)pem.len) : NULL;

    if (authority && bio) {
        shl_list_init(&authority->by_use);
        authority->key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        authority->certificate = read_certificate(pem);
        authority->leaf_key = EVP_EC_gen("P-256");
    }
    BIO_free(bio);
    if (!authority || !authority->leaf_key) {
        egress_authority_close(authority);
        return shl_err_sys(err, ENOMEM, "the certificate authority could not be opened");
    }
    if (!authority->key || !authority->certificate ||
        X509_check_private_key(authority->certificate, authority->key) != 1) {
        egress_authority_close(authority);
        return shl_err_set(err, SHL_EINVALIDARG,
                           "this is not the key of a certificate authority with its certificate");
    }
    *ret = authority;
    return 0;
}

int egress_authority_certificate(struct shl_bytes pem, struct shl_buf *out, struct shl_err *err)
{
    X509 *x = read_certificate(pem);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    long len;
    int rc;

    if (!x || !bio || !PEM_write_bio_X509(bio, x)) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "there is no certificate in this");
    } else {
        len = BIO_get_mem_data(bio, &text);
        rc = shl_buf_append(out, text, (size_t)len);
    }
    BIO_free(bio);
    X509_free(x);
    return rc;
}

/* ---- leaves ---------------------------------------------------------------------- */

static struct leaf **slot_of(struct egress_authority *authority, const char *host)
{
    struct leaf **slot = &authority->buckets[shl_hash_text(host) % BUCKETS];

    while (*slot && strcmp((*slot)->host, host) != 0) {
        slot = &(*slot)->next;
    }
    return slot;
}

static void drop_leaf(struct egress_authority *authority, struct leaf **slot)
{
    struct leaf *leaf = *slot;

    *slot = leaf->next;
    shl_list_remove(&leaf->by_use);
    X509_free(leaf->certificate);
    free(leaf);
    authority->count--;
}

void egress_authority_close(struct egress_authority *authority)
{
    if (!authority) {
        return;
    }
    while (authority->count > 0) {
        struct leaf *leaf =
            shl_container_of(shl_list_first(&authority->by_use), struct leaf, by_use);

        drop_leaf(authority, slot_of(authority, leaf->host));
    }
    EVP_PKEY_free(authority->leaf_key);
    EVP_PKEY_free(authority->key);
    X509_free(authority->certificate);
    free(authority);
}

/* "[::1]" is spelled without its brackets in a certificate. */
static void name_entry(char dst[EGRESS_HOST_SIZE + 8], const char *host)
{
    struct egress_address address;
    char text[EGRESS_ADDRESS_TEXT_SIZE];

    if (egress_address_parse(&address, host) == 0) {
        egress_address_format(text, &address);
        (void)snprintf(dst, EGRESS_HOST_SIZE + 8, "IP:%s", text);
    } else {
        (void)snprintf(dst, EGRESS_HOST_SIZE + 8, "DNS:%s", host);
    }
}

static X509 *make_leaf(struct egress_authority *authority, const char *host)
{
    char names[EGRESS_HOST_SIZE + 8];
    X509 *x = X509_new();

    name_entry(names, host);
    /* the common name has 64 characters at most and is no longer looked at: the same for all */
    if (x && X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
        set_name(x, "Shoal egress", X509_get_subject_name(authority->certificate)) &&
        set_times(x, LEAF_DAYS) && X509_set_pubkey(x, authority->leaf_key) &&
        add_extension(x, authority->certificate, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(x, authority->certificate, NID_key_usage, "critical,digitalSignature") &&
        add_extension(x, authority->certificate, NID_ext_key_usage, "serverAuth") &&
        add_extension(x, authority->certificate, NID_authority_key_identifier, "keyid") &&
        add_extension(x, authority->certificate, NID_subject_alt_name, names) &&
        X509_sign(x, authority->key, EVP_sha256()) > 0) {
        return x;
    }
    X509_free(x);
    return NULL;
}

static struct leaf *find_leaf(struct egress_authority *authority, const char *host)
{
    struct leaf **slot = slot_of(authority, host);
    time_t now = time(NULL);
    struct leaf *leaf;

    if (*slot && (*slot)->until - now < LEAF_RENEW_S) {
        drop_leaf(authority, slot);
        slot = slot_of(authority, host);
    }
    if (*slot) {
        shl_list_remove(&(*slot)->by_use);
        shl_list_push_front(&authority->by_use, &(*slot)->by_use);
        return *slot;
    }
    if (authority->count >= EGRESS_LEAVES_MAX) {
        leaf = shl_container_of(authority->by_use.prev, struct leaf, by_use);
        drop_leaf(authority, slot_of(authority, leaf->host));
        slot = slot_of(authority, host);
    }
    leaf = calloc(1, sizeof(*leaf));
    if (!leaf) {
        return NULL;
    }
    leaf->certificate = make_leaf(authority, host);
    if (!leaf->certificate) {
        free(leaf);
        return NULL;
    }
    (void)snprintf(leaf->host, sizeof(leaf->host), "%s", host);
    leaf->until = now + LEAF_DAYS * 86400;
    *slot = leaf;
    shl_list_push_front(&authority->by_use, &leaf->by_use);
    authority->count++;
    return leaf;
}

int egress_authority_dress(struct egress_authority *authority, SSL *ssl, const char *host)
{
    struct leaf *leaf = find_leaf(authority, host);

    if (!leaf || SSL_use_certificate(ssl, leaf->certificate) != 1 ||
        SSL_use_PrivateKey(ssl, authority->leaf_key) != 1) {
        return -EIO;
    }
    return 0;
}
