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
 *            (multiple of 512), mac "aa:bb:..", serial_max_bytes?, hotplug_max_bytes?,
 *            hotplug_bytes?, deadline_ms?, fds: [names]}
 *           with the named descriptors attached to the message's first byte by
 *           SCM_RIGHTS, in the order of `fds`:
 *             kernel    uncompressed ELF vmlinux (or bzImage), read-only
 *             initrd    read-only
 *             base      disk base image, read-only, never written
 *             layer     sealed overlay, read-only; any number up to
 *                       VMM_DISK_LAYERS_MAX, from the lowest to the highest
 *             overlay   read-write file that this VM alone writes; empty or a valid
 *                       overlay of this base
 *             tap       TAP interface opened with IFF_NO_PI | IFF_VNET_HDR; may be absent:
 *                       no network device
 *             serial    file for console output; bounded by serial_max_bytes
 *           hotplug_max_bytes: size of the virtio-mem region above 4 GiB (multiple of
 *           VMM_HOTPLUG_BLOCK_BYTES, 0: no such device), fixed for the life of the
 *           guest and all its snapshots; hotplug_bytes: how much of it the guest is
 *           to have now.
 *           deadline_ms: as of the op deadline, 0 or absent: none.
 *           Replies when the vCPUs run. Once per process; after a refused start or
 *           restore the process ends with host_error and the same text as detail.
 *   restore {disk_bytes, mac?, hotplug_bytes?, serial_max_bytes?, deadline_ms?, paused?,
 *            fds: [names]}
 *           instead of start. vCPUs, boot memory, devices come from the state file.
 *             state     written by snapshot, read-only
 *             mem_base  raw memory image of exactly the boot memory, read-only; absent:
 *                       memory starts as zeros
 *             mem       memory layer (vmm-kvm/layer.h), read-only; up to
 *                       VMM_MEM_LAYERS_MAX, from the lowest to the highest
 *             working_set  a hint, may be absent: a memory layer that an earlier snapshot of
 *                       this machine wrote as `mem`. The pages it holds are made this
 *                       process's own before the guest runs, up to
 *                       VMM_WORKING_SET_MAX_BYTES of them, because the guest is
 *                       expected to write them soon. What it holds of them is not read
 *             base, layer, overlay, tap, serial: as for start
 *           disk_bytes and hotplug_bytes may be larger than in the snapshot: the guest
 *           is told after it runs. A network device is there exactly when the snapshot
 *           had one, and then tap and mac are required. The mac of the device changes
 *           in its configuration; the agent changes the one the guest uses.
 *           Nothing of these files is written. A file that is truncated, altered, of
 *           another version or another CPU is refused: SHL_ECORRUPT, SHL_EVERSION,
 *           SHL_EINCOMPATIBLE with the reason. -> {vcpus, memory_bytes, hotplug_bytes,
 *           load_us}. Replies when the vCPUs run (paused: when they could).
 *   pause   -> {} vCPUs stopped, I/O drained. Fine when it is paused already.
 *   resume  -> {} undoes pause, a snapshot's keep_paused and a deadline that struck. Fine when
 *           it runs. SHL_EBADSTATE when the deadline has passed: a later one or none first.
 *   deadline {at_ms} -> {struck}: CLOCK_MONOTONIC of this machine, 0: none. At that time the
 *           VM pauses itself, also in the middle of a snapshot (which is completed), unless
 *           another deadline came before; then not even I/O that the guest asked for goes on.
 *           struck: that has happened and it was not resumed since, which a later deadline
 *           alone does not do. One that has passed strikes at once.
 *   snapshot {keep_paused?, disk_only?, fds: [state, mem, overlay?]}: all files empty
 *           and read-write. Pauses, drains, writes the VM's state to `state` and every
 *           page that differs from what is mapped (mem_base and mem layers, or zeros) to
 *           `mem` as one layer on top of those; seals the overlay in the same pause and
 *           goes on with `overlay` as the new one (absent: goes on with the old one,
 *           which is complete in the file). Then resumes, unless keep_paused or it was
 *           paused before. disk_only: no state, no mem. Files are complete but not
 *           synced; that is the caller's part, after the pause. Any failure (-ENOSPC)
 *           leaves the VM as it was, with nothing lost, and it goes on.
 *           -> {pause_us, dirty_pages, mem_bytes, state_bytes}
 *   layers  {fds: [layer...]}: from now on read through these instead of the present
 *           sealed layers. The caller made sure that the contents are equal.
 *           Fine while running.
 *   stop    {grace_ms <= 600000}: 0 ends at once. Otherwise the guest agent is expected to shut
 *           the guest down (the node asks it); after grace_ms it ends anyway.
 *   status  -> {state, reason, detail, pid, vcpus, memory_bytes, hotplug_max_bytes,
 *            hotplug_bytes (asked), hotplug_plugged_bytes, uptime_ms, agent_connected,
 *            deadline_ms, deadline_struck}:
 *           agent_connected: a guest process has the agent port open
 *   stats   -> {exits{io, mmio, hlt, other}, disk{reads, writes, read_bytes,
 *            write_bytes, flushes, errors, overlay_bytes}, net{rx_packets, rx_bytes, tx_packets,
 *            tx_bytes, rx_dropped, tx_dropped}, agent{rx_bytes, tx_bytes, tx_dropped_bytes},
 *            rng_bytes, balloon{reported_bytes, discarded_bytes},
 *            queue_errors, serial_bytes, serial_dropped_bytes, vmm_rss_bytes}
 */
#ifndef SHL_VMM_CONTROL_H
#define SHL_VMM_CONTROL_H

#define VMM_CONTROL_SOCKET "control.sock"
#define VMM_AGENT_SOCKET   "agent.sock"
#define VMM_EXIT_FILE      "exit.msgpack"

#define VMM_CONTROL_FRAME_MAX        65536u
#define VMM_CONTROL_CLIENTS_MAX      4
#define VMM_CONTROL_FDS_MAX          32
#define VMM_SERIAL_DEFAULT_MAX_BYTES (1024u * 1024)

#define VMM_VCPUS_MAX        4
#define VMM_MEMORY_MIN_BYTES (128ull << 20)
#define VMM_MEMORY_MAX_BYTES (64ull << 30)

#define VMM_DISK_LAYERS_MAX 16 /* sealed overlays below the one that is written */
#define VMM_MEM_LAYERS_MAX  4
/* Private memory of an idle fork may be 10 MiB (docs/benchmarks.md). */
#define VMM_WORKING_SET_MAX_BYTES (8ull << 20)
#define VMM_HOTPLUG_BLOCK_BYTES   (4ull << 20)

/* State of the VM, as text on the wire: created -> running <-> paused, then ended. */
#define VMM_STATE_CREATED "created"
#define VMM_STATE_RUNNING "running"
#define VMM_STATE_PAUSED  "paused"
#define VMM_STATE_ENDED   "ended"

/* Why it ended, as text on the wire; `detail` is one sentence. */
#define VMM_REASON_STOPPED     "stopped"        /* by op stop or SIGTERM */
#define VMM_REASON_SHUTDOWN    "guest_shutdown" /* the guest powered off or rebooted */
#define VMM_REASON_PANIC       "guest_panic"    /* kernel panic, with its line in detail */
#define VMM_REASON_GUEST_ERROR "guest_error"    /* broke the rules of a device */
#define VMM_REASON_HOST_ERROR  "host_error"     /* KVM, disk or memory of this machine */

#endif /* SHL_VMM_CONTROL_H */
