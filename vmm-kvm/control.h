/* The control protocol between a node and one shoal-vmm process, and the process's
 * command line. This header is all the node knows of the VMM.
 *
 * Process: `shoal-vmm --dir DIR [--uid N --gid N] [--cgroup PATH] [--no-jail]`.
 * DIR belongs to this sandbox alone. In the jail it is the whole file system of the
 * process and, with --uid, is given to that user; the sockets stay the caller's (0600).
 * Descriptors above 2 are closed at start. `... run --kernel F ...` (see --help) starts
 * a VM from file names, for tests. At start the process binds
 *   DIR/control.sock  Unix stream, up to VMM_CONTROL_CLIENTS_MAX clients
 *   DIR/agent.sock    Unix stream, one client at a time: the raw bytes of the agent
 *                     port. A new client replaces the old one; the guest sees the
 *                     port close and open.
 * and, before it ends for whatever reason it can foresee, writes DIR/exit.msgpack
 * with the map of `status`. SIGTERM equals the op stop with grace 0. The process
 * never outlives its VM by more than it takes to write that file.
 *
 * Frames: uint32 little-endian length (<= VMM_CONTROL_FRAME_MAX), then one msgpack
 * map. Request {id, op, ...}; reply {id, code, msg?, ...}: code 0 or a negative code
 * of base/err.h. Events carry no id: {event: "state", ...status}.
 *
 * Operations:
 *   start   {vcpus 1..4, memory_bytes (multiple of 1 MiB), cmdline, disk_bytes
 *            (multiple of 512), mac "aa:bb:..", serial_max_bytes?, fds: [names]}
 *           with the named descriptors attached to the message's first byte by
 *           SCM_RIGHTS, in the order of `fds`:
 *             kernel    uncompressed ELF vmlinux (or bzImage), read-only
 *             initrd    read-only
 *             base      disk base image, read-only, never written
 *             overlay   read-write file that this VM alone writes; empty or a valid
 *                       overlay of this base
 *             tap       TAP interface opened with IFF_NO_PI | IFF_VNET_HDR; may be absent:
 *                       no network device
 *             serial    file for console output; bounded by serial_max_bytes
 *           Replies when the vCPUs run. Once per process; after a refused start the
 *           process ends with host_error and the same text as detail.
 *   stop    {grace_ms <= 600000}: 0 ends at once. Otherwise the guest agent is expected to shut
 *           the guest down (the node asks it); after grace_ms it ends anyway.
 *   status  -> {state, reason, detail, pid, vcpus, memory_bytes, uptime_ms, agent_connected}:
 *           agent_connected: a guest process has the agent port open
 *   stats   -> {exits{io, mmio, hlt, other}, disk{reads, writes, read_bytes,
 *            write_bytes, flushes, errors, overlay_bytes}, net{rx_packets, rx_bytes, tx_packets,
 *            tx_bytes, rx_dropped, tx_dropped}, agent{rx_bytes, tx_bytes, tx_dropped_bytes},
 *            rng_bytes,
 *            queue_errors, serial_bytes, serial_dropped_bytes, vmm_rss_bytes}
 */
#ifndef SHL_VMM_CONTROL_H
#define SHL_VMM_CONTROL_H

#define VMM_CONTROL_SOCKET "control.sock"
#define VMM_AGENT_SOCKET   "agent.sock"
#define VMM_EXIT_FILE      "exit.msgpack"

#define VMM_CONTROL_FRAME_MAX        65536u
#define VMM_CONTROL_CLIENTS_MAX      4
#define VMM_CONTROL_FDS_MAX          8
#define VMM_SERIAL_DEFAULT_MAX_BYTES (1024u * 1024)

#define VMM_VCPUS_MAX        4
#define VMM_MEMORY_MIN_BYTES (128ull << 20)
#define VMM_MEMORY_MAX_BYTES (64ull << 30)

/* State of the VM, as text on the wire: created -> running -> ended. */
#define VMM_STATE_CREATED "created"
#define VMM_STATE_RUNNING "running"
#define VMM_STATE_ENDED   "ended"

/* Why it ended, as text on the wire; `detail` is one sentence. */
#define VMM_REASON_STOPPED     "stopped"        /* by op stop or SIGTERM */
#define VMM_REASON_SHUTDOWN    "guest_shutdown" /* the guest powered off or rebooted */
#define VMM_REASON_PANIC       "guest_panic"    /* kernel panic, with its line in detail */
#define VMM_REASON_GUEST_ERROR "guest_error"    /* broke the rules of a device */
#define VMM_REASON_HOST_ERROR  "host_error"     /* KVM, disk or memory of this machine */

#endif /* SHL_VMM_CONTROL_H */
