/* The handlers of node/api/routes.c, by file. Each replies to its call, now or later. */
#ifndef SHL_NODE_API_HANDLERS_H
#define SHL_NODE_API_HANDLERS_H

struct node_call;

/* health.c */
void node_handle_health(struct node_call *call);
void node_handle_healthz(struct node_call *call);
void node_handle_readyz(struct node_call *call);
void node_handle_metrics(struct node_call *call);
void node_handle_debug_state(struct node_call *call);

/* workers.c */
void node_handle_workers(struct node_call *call);
void node_handle_worker_drain(struct node_call *call);
void node_handle_worker_evict(struct node_call *call);

/* nodes.c */
void node_handle_cluster(struct node_call *call);
void node_handle_cluster_backup(struct node_call *call);
void node_handle_node_drain(struct node_call *call);
void node_handle_node_cordon(struct node_call *call);
void node_handle_node_uncordon(struct node_call *call);
void node_handle_node_remove(struct node_call *call);
void node_handle_join_token(struct node_call *call);

/* sandboxes.c */
void node_handle_sandbox_create(struct node_call *call);
void node_handle_sandbox_get(struct node_call *call);
void node_handle_sandbox_kill(struct node_call *call);
void node_handle_sandbox_timeout(struct node_call *call);

/* list.c */
void node_handle_sandbox_list(struct node_call *call);

/* move.c */
void node_handle_sandbox_migrate(struct node_call *call);

/* recover.c */
void node_handle_sandbox_recover(struct node_call *call);

/* lifecycle.c */
void node_handle_sandbox_hibernate(struct node_call *call);
void node_handle_sandbox_wake(struct node_call *call);
void node_handle_sandbox_reboot(struct node_call *call);
void node_handle_sandbox_power_cycle(struct node_call *call);

/* checkpoints.c */
void node_handle_checkpoint_create(struct node_call *call);
void node_handle_checkpoint_list(struct node_call *call);
void node_handle_checkpoint_delete(struct node_call *call);
void node_handle_checkpoint_restore(struct node_call *call);

/* fork.c */
void node_handle_fork(struct node_call *call);

/* patches.c */
void node_handle_patch_create(struct node_call *call);
void node_handle_patch_list(struct node_call *call);
void node_handle_patch_delete(struct node_call *call);

/* snapshots.c */
void node_handle_snapshot_create(struct node_call *call);
void node_handle_snapshot_list(struct node_call *call);
void node_handle_snapshot_get(struct node_call *call);
void node_handle_snapshot_delete(struct node_call *call);

/* secret_stores.c */
void node_handle_secret_store_create(struct node_call *call);
void node_handle_secret_store_list(struct node_call *call);
void node_handle_secret_store_get(struct node_call *call);
void node_handle_secret_store_update(struct node_call *call);
void node_handle_secret_store_delete(struct node_call *call);

/* secrets.c */
void node_handle_secret_set(struct node_call *call);
void node_handle_secret_list(struct node_call *call);
void node_handle_secret_delete(struct node_call *call);

/* exec.c, exec_sessions.c */
void node_handle_exec_run(struct node_call *call);
void node_handle_exec_run_async(struct node_call *call);
void node_handle_exec_result(struct node_call *call);
void node_handle_exec_start(struct node_call *call);
void node_handle_exec_list(struct node_call *call);
void node_handle_exec_attach(struct node_call *call);
void node_handle_pty_create(struct node_call *call);
void node_handle_pty_attach(struct node_call *call);
void node_handle_pty_resize(struct node_call *call);
void node_handle_pty_kill(struct node_call *call);
void node_handle_exec_kill(struct node_call *call);

/* agent_sessions.c; list and kill in exec_sessions.c, attach in attach.c */
void node_handle_agent_start(struct node_call *call);
void node_handle_agent_list(struct node_call *call);
void node_handle_agent_attach(struct node_call *call);
void node_handle_agent_prompt(struct node_call *call);
void node_handle_agent_configure(struct node_call *call);
void node_handle_agent_interrupt(struct node_call *call);
void node_handle_agent_kill(struct node_call *call);

/* file_read.c, file_write.c, files.c */
void node_handle_file_read(struct node_call *call);
void node_handle_file_write(struct node_call *call);
void node_handle_file_remove(struct node_call *call);
void node_handle_file_list(struct node_call *call);
void node_handle_file_mkdir(struct node_call *call);

/* file_urls.c */
void node_handle_file_download_url(struct node_call *call);
void node_handle_file_upload_url(struct node_call *call);

/* previews.c */
void node_handle_preview_create(struct node_call *call);
void node_handle_preview_list(struct node_call *call);
void node_handle_preview_delete(struct node_call *call);
void node_handle_preview_rotate(struct node_call *call);

#endif /* SHL_NODE_API_HANDLERS_H */
