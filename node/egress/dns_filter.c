/* Questions for names by guests with an allowlist: only permitted names are asked of the name
 * server, so that data cannot leave in the names of questions. Everything else is REFUSED.
 *
 * UDP alone. A job is one question under way: its own socket towards the server, closed with
 * the first answer that bears its number or after EGRESS_DNS_JOB_MS.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/id.h"
#include "node/egress/dns.h"
#include "node/egress/gateway_private.h"

#define DNS_JOBS_MAX      1024
#define EGRESS_DNS_JOB_MS 6000
#define DNS_READ_MAX      32 /* questions in one round of the loop */
#define QUESTION_MAX      1232

struct egress_dns_job {
    struct shl_list node;
    struct egress_gateway *gateway;
    int fd;
    int handles;
    uv_poll_t poll;
    uv_timer_t timer;
    uint16_t id;      /* of the guest */
    uint16_t sent_id; /* of ours */
    struct sockaddr_in guest;
    struct in_addr local; /* the address it asked */
};

/* The answer must come from the address that was asked, or the guest does not take it. */
static void answer(struct egress_gateway *gateway,
                   const struct sockaddr_in *guest,
                   struct in_addr local,
                   const uint8_t *message,
                   size_t len)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
    } control = {0};
    struct in_pktinfo info = {.ipi_spec_dst = local};
    struct sockaddr_in to = *guest;
    union {
        const uint8_t *in;
        void *out;
    } bytes = {message};
    struct iovec iov = {bytes.out, len};
    struct msghdr packet = {.msg_name = &to,
                            .msg_namelen = sizeof(to),
                            .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof(control.space)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&packet);

    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(CMSG_DATA(header), &info, sizeof(info));
    (void)sendmsg(gateway->config.dns_fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_closed(uv_handle_t *handle)
{
    struct egress_dns_job *job = handle->data;
    struct egress_gateway *gateway = job->gateway;

    if (--job->handles > 0) {
        return;
    }
    free(job);
    gateway->dns_job_count--;
    egress_gateway_check_closed(gateway);
}

static void end_job(struct egress_dns_job *job)
{
    shl_list_remove(&job->node);
    uv_close((uv_handle_t *)&job->poll, on_closed);
    uv_close((uv_handle_t *)&job->timer, on_closed);
    (void)close(job->fd);
}

static void on_timer(uv_timer_t *timer)
{
    end_job(timer->data); /* the guest asks again by itself */
}

static void on_answer(uv_poll_t *poll, int status, int events)
{
    struct egress_dns_job *job = poll->data;
    uint8_t message[EGRESS_DNS_MESSAGE_MAX];
    ssize_t len = recv(job->fd, message, sizeof(message), 0);

    (void)status;
    (void)events;
    if (len < 12 || (message[0] << 8 | message[1]) != job->sent_id) {
        return;
    }
    message[0] = (uint8_t)(job->id >> 8);
    message[1] = (uint8_t)job->id;
    answer(job->gateway, &job->guest, job->local, message, (size_t)len);
    end_job(job);
}

static int open_socket(const struct egress_gateway *gateway)
{
    struct egress_address server = {.family = AF_INET, .v4.s_addr = htonl(gateway->config.dns)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_storage to;
    socklen_t len = egress_address_to_socket(&server, gateway->config.dns_port, &to);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, len) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static bool asks_too_much(const struct egress_gateway *gateway, const struct sockaddr_in *guest)
{
    const struct shl_list *it;
    size_t count = 0;

    SHL_LIST_FOREACH(it, &gateway->dns_jobs) {
        count += shl_container_of(it, struct egress_dns_job, node)->guest.sin_addr.s_addr ==
                 guest->sin_addr.s_addr;
    }
    return count >= EGRESS_GUEST_LOOKUPS_MAX;
}

/* A question that cannot be passed on is lost, as on any network. */
static void pass_on(struct egress_gateway *gateway,
                    const struct sockaddr_in *guest,
                    struct in_addr local,
                    uint8_t *message,
                    size_t len)
{
    struct egress_dns_job *job;
    int fd;

    if (gateway->config.dns == 0 || gateway->dns_job_count >= DNS_JOBS_MAX ||
        asks_too_much(gateway, guest)) {
        return;
    }
    job = calloc(1, sizeof(*job));
    fd = job ? open_socket(gateway) : -1;
    if (fd < 0 || uv_poll_init(gateway->loop, &job->poll, fd) < 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        free(job);
        return;
    }
    (void)uv_timer_init(gateway->loop, &job->timer);
    job->poll.data = job->timer.data = job;
    job->gateway = gateway;
    job->fd = fd;
    job->handles = 2;
    job->guest = *guest;
    job->local = local;
    job->id = (uint16_t)(message[0] << 8 | message[1]);
    shl_random_bytes(&job->sent_id, sizeof(job->sent_id));
    message[0] = (uint8_t)(job->sent_id >> 8);
    message[1] = (uint8_t)job->sent_id;
    shl_list_push_back(&gateway->dns_jobs, &job->node);
    gateway->dns_job_count++;
    gateway->counters.dns_passed++;
    (void)send(fd, message, len, MSG_NOSIGNAL);
    (void)uv_poll_start(&job->poll, UV_READABLE, on_answer);
    (void)uv_timer_start(&job->timer, on_timer, EGRESS_DNS_JOB_MS, 0);
}

static void take_question(struct egress_gateway *gateway,
                          const struct sockaddr_in *from,
                          struct in_addr local,
                          uint8_t *message,
                          size_t len)
{
    struct egress_guest *guest = egress_guest_find(gateway, ntohl(from->sin_addr.s_addr));
    char host[EGRESS_HOST_SIZE];
    uint16_t type;

    if (!guest || egress_dns_question(shl_bytes_of(message, len), host, &type) < 0) {
        return;
    }
    if (host[0] && node_egress_may_reach(&guest->policy, host)) {
        pass_on(gateway, from, local, message, len);
        return;
    }
    gateway->counters.dns_refused++;
    len = egress_dns_refuse(message, len);
    answer(gateway, from, local, message, len);
}

static bool find_local(struct msghdr *packet, struct in_addr *ret)
{
    struct cmsghdr *header;

    for (header = CMSG_FIRSTHDR(packet); header; header = CMSG_NXTHDR(packet, header)) {
        if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;

            memcpy(&info, CMSG_DATA(header), sizeof(info));
            *ret = info.ipi_spec_dst;
            return true;
        }
    }
    return false;
}

void egress_dns_filter_read(struct egress_gateway *gateway)
{
    int i;

    for (i = 0; i < DNS_READ_MAX; i++) {
        union {
            struct cmsghdr header;
            char space[256];
        } control;
        uint8_t message[QUESTION_MAX];
        struct sockaddr_in from = {0};
        struct in_addr local;
        struct iovec iov = {message, sizeof(message)};
        struct msghdr packet = {.msg_name = &from,
                                .msg_namelen = sizeof(from),
                                .msg_iov = &iov,
                                .msg_iovlen = 1,
                                .msg_control = control.space,
                                .msg_controllen = sizeof(control.space)};
        ssize_t len = recvmsg(gateway->config.dns_fd, &packet, MSG_DONTWAIT);

        if (len < 0) {
            break;
        }
        if (from.sin_family == AF_INET && !(packet.msg_flags & MSG_TRUNC) &&
            find_local(&packet, &local)) {
            take_question(gateway, &from, local, message, (size_t)len);
        }
    }
}

void egress_dns_filter_close(struct egress_gateway *gateway)
{
    while (!shl_list_empty(&gateway->dns_jobs)) {
        end_job(shl_container_of(shl_list_first(&gateway->dns_jobs), struct egress_dns_job, node));
    }
}
