#include "node/store/db.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

int node_db_error(struct shl_err *err, int code, const char *what, char *message)
{
    code = shl_err_set(err, code, "%s: %s", what, message);
    leveldb_free(message);
    return code;
}

/* LevelDB starts a new database when its CURRENT file is missing. With other database
 * files present that means a lost file, and an empty store would orphan every VM. */
static int check_not_gutted(const char *dir, const char *what, struct shl_err *err)
{
    SHL_CLEANUP_FREE char *current = NULL;
    bool has_data = false;
    struct dirent *entry;
    DIR *folder;

    if (asprintf(&current, "%s/CURRENT", dir) < 0) {
        current = NULL;
        return shl_err_sys(err, ENOMEM, "cannot open %s in %s", what, dir);
    }
    if (access(current, F_OK) == 0) {
        return 0;
    }
    folder = opendir(dir);
    if (!folder) {
        return shl_err_sys(err, errno, "cannot read the folder %s of %s", dir, what);
    }
    while ((entry = readdir(folder))) {
        size_t len = strlen(entry->d_name);

        has_data |= len > 4 && strcmp(entry->d_name + len - 4, ".ldb") == 0;
        has_data |= strncmp(entry->d_name, "MANIFEST-", 9) == 0;
    }
    (void)closedir(folder);
    if (has_data) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "%s in %s are damaged (CURRENT is missing): restore the "
                           "folder from a copy, or move it away to start without them",
                           what, dir);
    }
    return 0;
}

int node_db_open(struct node_db *db, const char *dir, const char *what, struct shl_err *err)
{
    char *message = NULL;
    int rc = shl_mkdir_all(dir, 0700);

    *db = (struct node_db){0};
    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot create the folder %s of %s", dir, what);
    }
    rc = check_not_gutted(dir, what, err);
    if (rc < 0) {
        return rc;
    }
    db->options = leveldb_options_create();
    db->read = leveldb_readoptions_create();
    db->write = leveldb_writeoptions_create();
    leveldb_options_set_create_if_missing(db->options, 1);
    leveldb_options_set_paranoid_checks(db->options, 1);
    leveldb_readoptions_set_verify_checksums(db->read, 1);
    leveldb_writeoptions_set_sync(db->write, 1);
    db->db = leveldb_open(db->options, dir, &message);
    if (!db->db) {
        rc = shl_err_set(err, SHL_ECORRUPT, "cannot open %s of this node: %s", what, message);
        leveldb_free(message);
        node_db_close(db);
        return rc;
    }
    return 0;
}

void node_db_close(struct node_db *db)
{
    if (db->db) {
        leveldb_close(db->db);
    }
    if (db->options) {
        leveldb_writeoptions_destroy(db->write);
        leveldb_readoptions_destroy(db->read);
        leveldb_options_destroy(db->options);
    }
    *db = (struct node_db){0};
}
