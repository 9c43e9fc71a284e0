#include "node/net/nft.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <string.h>

#define DETAIL_MAX 160

/* First line of what nft prints, without the text of the rule below it. */
static void first_line(char dst[DETAIL_MAX], const char *text)
{
    size_t len = strcspn(text, "\n");

    if (len >= DETAIL_MAX) {
        len = DETAIL_MAX - 1;
    }
    memcpy(dst, text, len);
    dst[len] = '\0';
}

static int explain(const char *output, struct shl_err *err)
{
    char detail[DETAIL_MAX];

    first_line(detail, output && output[0] ? output : "no reason given");
    if (strstr(detail, "Operation not permitted")) {
        return shl_err_set(
            err, -EPERM, "cannot change nftables: run shoald as root (CAP_NET_ADMIN) (%s)", detail);
    }
    if (strstr(detail, "No such file or directory") || strstr(detail, "not supported")) {
        return shl_err_set(err, -ENOTSUP,
                           "the kernel refuses the guest network rules; it needs nf_tables, "
                           "nft_ct, nft_nat, nft_masq and nft_reject_inet (%s)",
                           detail);
    }
    return shl_err_set(err, -EIO, "cannot change nftables: %s", detail);
}

char *node_nft_set(const char *table, const char *set)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    char command[128];
    char *text = NULL;

    (void)snprintf(command, sizeof(command), "list set inet %s %s", table, set);
    if (ctx && nft_ctx_buffer_output(ctx) == 0 && nft_ctx_buffer_error(ctx) == 0 &&
        nft_run_cmd_from_buffer(ctx, command) == 0) {
        text = strdup(nft_ctx_get_output_buffer(ctx));
    }
    if (ctx) {
        nft_ctx_free(ctx);
    }
    return text;
}

int node_nft_run(const char *commands, struct shl_err *err)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    int rc = 0;

    if (!ctx) {
        return shl_err_sys(err, ENOMEM, "cannot change nftables");
    }
    if (nft_ctx_buffer_output(ctx) != 0 || nft_ctx_buffer_error(ctx) != 0) {
        rc = shl_err_sys(err, ENOMEM, "cannot change nftables");
    } else if (nft_run_cmd_from_buffer(ctx, commands) != 0) {
        rc = explain(nft_ctx_get_error_buffer(ctx), err);
    }
    nft_ctx_free(ctx);
    return rc;
}
