#include "node/egress/trust.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/io.h"

#define FILE_BYTES_MAX (256u * 1024)

struct collection {
    struct node_trusted *list;
    size_t count, bytes;
};

/* 1 added, 0 no room, negative without memory. */
static int add(struct collection *all, X509 *x)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct node_trusted *one = &all->list[all->count];
    char *text;
    long len;
    int rc = 0;

    if (!bio || !PEM_write_bio_X509(bio, x)) {
        BIO_free(bio);
        return -ENOMEM;
    }
    len = BIO_get_mem_data(bio, &text);
    if (all->count < EGRESS_TRUST_MAX && all->bytes + (size_t)len <= EGRESS_TRUST_BYTES) {
        one->pem = shl_bytes_dup_str(shl_bytes_of(text, (size_t)len));
        (void)snprintf(one->hash, sizeof(one->hash), "%08lx",
                       X509_subject_name_hash(x) & 0xffffffffu);
        rc = one->pem ? 1 : -ENOMEM;
    }
    BIO_free(bio);
    if (rc == 1) {
        all->count++;
        all->bytes += (size_t)len;
    }
    return rc;
}

/* Every certificate in @pem. What is none is passed over. */
static int add_all(struct collection *all, struct shl_bytes pem)
{
    BIO *bio = pem.len <= INT_MAX ? BIO_new_mem_buf(pem.base, (int)pem.len) : NULL;
    X509 *x;
    int rc = bio ? 1 : -ENOMEM;

    while (rc == 1 && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        rc = add(all, x);
        X509_free(x);
    }
    ERR_clear_error(); /* of the end */
    BIO_free(bio);
    return rc < 0 ? rc : 0;
}

static int is_certificate_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 4 && strcmp(entry->d_name + len - 4, ".crt") == 0 && entry->d_name[0] != '.';
}

static int add_folder(struct collection *all, const char *folder)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, is_certificate_file, alphasort), i, rc = 0;

    for (i = 0; i < count; i++) {
        char path[PATH_MAX];
        struct shl_buf buf;

        shl_buf_init(&buf, FILE_BYTES_MAX);
        if (rc == 0 &&
            snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name) < (int)sizeof(path) &&
            shl_read_file(path, &buf) == 0) {
            rc = add_all(all, shl_buf_bytes(&buf));
        }
        shl_buf_release(&buf);
        free(names[i]);
    }
    free(names);
    return rc;
}

int egress_trust_collect(struct shl_bytes authority,
                         const char *folder,
                         struct node_trusted **ret_list,
                         size_t *ret_count,
                         struct shl_err *err)
{
    struct collection all = {.list = calloc(EGRESS_TRUST_MAX + 1, sizeof(*all.list))};
    int rc = all.list ? add_all(&all, authority) : -ENOMEM;

    if (rc == 0 && all.count == 0) {
        rc = SHL_EINVALIDARG;
    }
    rc = rc < 0 ? rc : add_folder(&all, folder);
    if (rc < 0) {
        while (all.count > 0) {
            free(all.list[--all.count].pem);
        }
        free(all.list);
        return shl_err_set(err, rc, "the certificates for guests cannot be read: %s",
                           shl_err_text(rc));
    }
    *ret_list = all.list;
    *ret_count = all.count;
    return 0;
}
