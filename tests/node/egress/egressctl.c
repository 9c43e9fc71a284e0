/* Talks to a shoal-egress by hand, for tests and benchmarks: what the daemon does in
 * node/egress/link.c, from a command line.
 *
 *   egressctl make-authority FILE          key and certificate, as PEM
 *   egressctl SOCKET hello|stats|mark|sweep|quit
 *   egressctl SOCKET authority|trust FILE
 *   egressctl SOCKET private [CIDR]...
 *   egressctl SOCKET drop ADDRESS
 *   egressctl SOCKET guest ADDRESS ID [--allow PATTERN]... [--kept TOKEN]...
 *             [--secret TOKEN VALUE [--to PATTERN]...]...
 *   egressctl SOCKET answer [CPU USED PROCESSES IN OUT]: waits for a guest that asks for
 *             figures and tells it these, or that there are none
 *   egressctl rules POOL DNS PORT DNS_PORT METADATA_PORT [TAP SLOT direct|watched|limited]...
 *             for nft -f
 * Prints the numbers of the reply as "name value" lines.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <sodium.h>

#include "base/io.h"
#include "base/mp.h"
#include "node/egress/authority.h"
#include "node/egress/policy.h"
#include "node/net/rules.h"

static void die(const char *what)
{
    (void)fprintf(stderr, "egressctl: %s\n", what);
    exit(1);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die(strerror(errno));
    }
    return fd;
}

static void send_request(int fd, const struct shl_buf *body, int file)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    uint8_t head[4];
    struct iovec iov[2] = {{head, 4}, {shl_buf_data(body), shl_buf_len(body)}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};

    shl_put_le32(head, (uint32_t)shl_buf_len(body));
    if (file >= 0) {
        struct cmsghdr *header;

        message.msg_control = control.space;
        message.msg_controllen = sizeof(control.space);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &file, sizeof(int));
    }
    if (sendmsg(fd, &message, 0) != (ssize_t)(4 + shl_buf_len(body))) {
        die("cannot send");
    }
}

static void read_full(int fd, uint8_t *dst, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, dst, len);

        if (n <= 0) {
            die("the gateway closed the connection");
        }
        dst += n;
        len -= (size_t)n;
    }
}

static int print_reply(int fd)
{
    static uint8_t body[65536];
    struct shl_mp_doc doc;
    uint8_t head[4];
    int64_t code = -1;
    uint32_t i;

    read_full(fd, head, 4);
    if (shl_get_le32(head) > sizeof(body)) {
        die("a reply that is too long");
    }
    read_full(fd, body, shl_get_le32(head));
    if (shl_mp_parse(&doc, shl_bytes_of(body, shl_get_le32(head))) < 0) {
        die("a reply that cannot be read");
    }
    if (shl_mp_get_int(doc.root, "code", &code) < 0) {
        die("a reply without code");
    }
    for (i = 0; i < doc.root->via.map.size; i++) {
        const msgpack_object_kv *kv = &doc.root->via.map.ptr[i];

        if (kv->val.type == MSGPACK_OBJECT_STR) {
            (void)fprintf(stderr, "%.*s\n", (int)kv->val.via.str.size, kv->val.via.str.ptr);
        } else {
            (void)printf("%.*s %lld\n", (int)kv->key.via.str.size, kv->key.via.str.ptr,
                         (long long)kv->val.via.i64);
        }
    }
    shl_mp_release(&doc);
    return code == 0 ? 0 : 1;
}

static int policy_file(int argc, char **argv)
{
    struct node_egress_policy policy = {.is_open = true};
    struct node_egress_secret *secret = NULL;
    struct shl_buf bytes;
    int fd = memfd_create("policy", 0), i;

    for (i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--allow") == 0 && i + 1 < argc) {
            policy.is_open = false;
            i++;
            if (node_host_list_add(&policy.allowlist, argv[i], strlen(argv[i]), 1024) < 0) {
                die("a pattern is not valid");
            }
        } else if (strcmp(argv[i], "--secret") == 0 && i + 2 < argc) {
            secret = node_egress_policy_add(&policy, argv[i + 1],
                                            shl_bytes_of(argv[i + 2], strlen(argv[i + 2])));
            if (!secret) {
                die("a token is not valid");
            }
            i += 2;
        } else if (strcmp(argv[i], "--kept") == 0 && i + 1 < argc) {
            secret = node_egress_policy_add(&policy, argv[i + 1], shl_bytes_of(NULL, 0));
            if (!secret) {
                die("the token is none");
            }
            secret->is_kept = true;
            i++;
        } else if (strcmp(argv[i], "--to") == 0 && i + 1 < argc && secret) {
            i++;
            if (node_host_list_add(&secret->hosts, argv[i], strlen(argv[i]), 32) < 0) {
                die("a pattern is not valid");
            }
        } else {
            die("see the head of egressctl.c");
        }
    }
    shl_buf_init(&bytes, EGRESS_POLICY_BYTES_MAX);
    if (egress_policy_write(&policy, &bytes) < 0 ||
        shl_write_full(fd, shl_buf_data(&bytes), shl_buf_len(&bytes)) < 0) {
        die("the policy cannot be written");
    }
    shl_buf_release(&bytes);
    node_egress_policy_release(&policy);
    return fd;
}

static int print_rules(int argc, char **argv)
{
    struct node_net_guest guests[16] = {0};
    struct node_net_ports ports;
    struct node_pool pool;
    struct shl_buf text;
    size_t count = 0;
    uint32_t dns;
    int i;

    if (argc < 5 || node_pool_init(&pool, argv[0], NULL) < 0 ||
        node_address_parse(argv[1], &dns) < 0) {
        die("see the head of egressctl.c");
    }
    ports.tcp = (uint16_t)strtoul(argv[2], NULL, 10);
    ports.dns = (uint16_t)strtoul(argv[3], NULL, 10);
    ports.metadata = (uint16_t)strtoul(argv[4], NULL, 10);
    for (i = 5; i + 2 < argc && count < 16; i += 3) {
        (void)snprintf(guests[count].tap, sizeof(guests[count].tap), "%s", argv[i]);
        guests[count].slot = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        guests[count++].egress = strcmp(argv[i + 2], "limited") == 0   ? NODE_NET_EGRESS_LIMITED
                                 : strcmp(argv[i + 2], "watched") == 0 ? NODE_NET_EGRESS_WATCHED
                                                                       : NODE_NET_EGRESS_DIRECT;
    }
    shl_buf_init(&text, 1 << 20);
    if (node_rules_all(&text, &pool, dns, guests, count) < 0 ||
        node_rules_egress(&text, &pool, &ports) < 0) {
        die("the rules cannot be made");
    }
    (void)fwrite(shl_buf_data(&text), 1, shl_buf_len(&text), stdout);
    shl_buf_release(&text);
    node_pool_release(&pool);
    return 0;
}

static int make_authority(const char *path)
{
    struct shl_buf pem;
    int rc;

    shl_buf_init(&pem, EGRESS_AUTHORITY_PEM_MAX);
    rc = egress_authority_make(&pem, NULL);
    rc = rc < 0 ? rc : shl_write_file_atomic(path, shl_buf_data(&pem), shl_buf_len(&pem), 0600);
    shl_buf_release(&pem);
    return rc < 0 ? 1 : 0;
}

static void begin(struct shl_buf *body, struct shl_mp_writer *w, const char *op)
{
    shl_buf_init(body, 65536);
    shl_mp_writer_init(w, body);
    shl_mp_map(w);
    shl_mp_kv_uint(w, "id", 1);
    shl_mp_kv_str(w, "op", op);
}

static void end(int fd, struct shl_buf *body, struct shl_mp_writer *w, int file)
{
    shl_mp_end(w);
    if (shl_mp_done(w) < 0) {
        die("out of memory");
    }
    send_request(fd, body, file);
    shl_buf_release(body);
}

/* Says hello first: who reads that knows that it is asked from now on. */
static int answer(int fd, int argc, char **argv)
{
    static const char *const keys[] = {"cpu_permille", "memory_used_bytes", "processes",
                                       "net_in_bytes", "net_out_bytes"};
    static uint8_t event[65536];
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf body;
    uint64_t address;
    char sandbox[64];
    uint8_t head[4];
    int i;

    begin(&body, &w, "hello");
    end(fd, &body, &w, -1);
    if (print_reply(fd) != 0 || fflush(stdout) != 0) {
        die("no hello");
    }
    read_full(fd, head, 4);
    if (shl_get_le32(head) > sizeof(event)) {
        die("an event that is too long");
    }
    read_full(fd, event, shl_get_le32(head));
    if (shl_mp_parse(&doc, shl_bytes_of(event, shl_get_le32(head))) < 0 ||
        shl_mp_get_uint(doc.root, "address", UINT32_MAX, &address) < 0 ||
        shl_mp_get_cpy(doc.root, "sandbox", sandbox, sizeof(sandbox)) < 0) {
        die("an event that cannot be read");
    }
    shl_mp_release(&doc);
    begin(&body, &w, "figures");
    shl_mp_kv_uint(&w, "address", address);
    shl_mp_kv_str(&w, "sandbox", sandbox);
    for (i = 0; i < 5 && argc == 5; i++) {
        shl_mp_kv_uint(&w, keys[i], strtoull(argv[i], NULL, 10));
    }
    end(fd, &body, &w, -1);
    return print_reply(fd);
}

int main(int argc, char **argv)
{
    struct in_addr address = {0};
    struct shl_mp_writer w;
    struct shl_buf body;
    int file = -1, fd;

    if (sodium_init() < 0) {
        return 1;
    }
    if (argc == 3 && strcmp(argv[1], "make-authority") == 0) {
        return make_authority(argv[2]);
    }
    if (argc >= 7 && strcmp(argv[1], "rules") == 0) {
        return print_rules(argc - 2, argv + 2);
    }
    if (argc < 3) {
        die("see the head of egressctl.c");
    }
    if (strcmp(argv[2], "answer") == 0) {
        return answer(connect_to(argv[1]), argc - 3, argv + 3);
    }
    begin(&body, &w, argv[2]);
    if (strcmp(argv[2], "private") == 0) {
        int i;

        shl_mp_kv_array(&w, "prefixes");
        for (i = 3; i < argc; i++) {
            shl_mp_str(&w, argv[i]);
        }
        shl_mp_end(&w);
    } else if (argc >= 4 && (strcmp(argv[2], "authority") == 0 || strcmp(argv[2], "trust") == 0)) {
        file = open(argv[3], O_RDONLY);
    } else if (argc >= 4 && inet_pton(AF_INET, argv[3], &address) == 1) {
        shl_mp_kv_uint(&w, "address", ntohl(address.s_addr));
    }
    if (argc >= 5 && strcmp(argv[2], "guest") == 0) {
        shl_mp_kv_str(&w, "sandbox", argv[4]);
        shl_mp_kv_str(&w, "region", "eu-1");
        shl_mp_kv_str(&w, "template", "minimal");
        shl_mp_kv_uint(&w, "memory_bytes", 1 << 30);
        shl_mp_kv_uint(&w, "began_ms", 1000);
        file = policy_file(argc - 5, argv + 5);
    }
    fd = connect_to(argv[1]);
    end(fd, &body, &w, file);
    return print_reply(fd);
}
