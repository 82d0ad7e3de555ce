/* Lists the collections of a Chroma persist directory, exports them, repairs the directory, and imports
 * the export.
 *
 *     cc -I ffi/include -o collections ffi/c/collections.c -L target/release -lhnsw_toolbox
 *     LD_LIBRARY_PATH=target/release ./collections PERSIST_DIR OUTPUT_DIR
 */

#include <stdio.h>

#include "hnsw_toolbox.h"

/* Prints the response and releases it, or prints the error. */
static int finish(const char *what, char *response) {
    if (response == NULL) {
        fprintf(stderr, "%s failed with code %u: %s\n", what,
                (unsigned)hnsw_toolbox_get_last_error_code(), hnsw_toolbox_get_last_error());
        return 1;
    }
    printf("%s\n", response);
    hnsw_toolbox_free_string(response);
    return 0;
}

/* Returns 0 if the call failed with this code. */
static int refused(char *response, enum hnsw_toolbox_code code) {
    if (response == NULL && hnsw_toolbox_get_last_error_code() == (uint32_t)code) {
        return 0;
    }
    fprintf(stderr, "expected code %u, found %u\n", (unsigned)code,
            (unsigned)hnsw_toolbox_get_last_error_code());
    hnsw_toolbox_free_string(response);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s PERSIST_DIR OUTPUT_DIR\n", argv[0]);
        return 2;
    }

    /* With paths from elsewhere, build the request with a JSON library: paths need escapes. */
    char request[8192];
    snprintf(request, sizeof request, "{\"persist_dir\": \"%s\"}", argv[1]);
    if (finish("list", hnsw_toolbox_list_collections(request)) != 0) {
        return 1;
    }

    uint64_t token = hnsw_toolbox_token_new();
    snprintf(request, sizeof request,
             "{\"persist_dir\": \"%s\", \"output_path\": \"%s/all\", \"output_format\": \"arrow_ipc\","
             " \"metadata\": \"columns\", \"index_columns\": true, \"token\": %llu}",
             argv[1], argv[2], (unsigned long long)token);
    if (finish("export", hnsw_toolbox_export(request)) != 0) {
        return 1;
    }
    uint64_t done = 0, total = 0;
    hnsw_toolbox_token_progress(token, &done, &total);
    printf("%llu of %llu\n", (unsigned long long)done, (unsigned long long)total);

    /* The output directory exists now. A cancelled call writes nothing. */
    int status = refused(hnsw_toolbox_export(request), HNSW_TOOLBOX_CODE_UNUSABLE_PATH);
    hnsw_toolbox_token_cancel(token);
    snprintf(request, sizeof request,
             "{\"persist_dir\": \"%s\", \"output_path\": \"%s/never\", \"token\": %llu}",
             argv[1], argv[2], (unsigned long long)token);
    status |= refused(hnsw_toolbox_export(request), HNSW_TOOLBOX_CODE_CANCELLED);
    snprintf(request, sizeof request,
             "{\"persist_dir\": \"%s\", \"in_place\": true, \"token\": %llu}", argv[1],
             (unsigned long long)token);
    status |= refused(hnsw_toolbox_repair_store(request), HNSW_TOOLBOX_CODE_CANCELLED);
    snprintf(request, sizeof request,
             "{\"sources\": [\"%s/all\"], \"into_dir\": \"%s\", \"in_place\": true, \"token\": %llu}",
             argv[2], argv[1], (unsigned long long)token);
    status |= refused(hnsw_toolbox_import(request), HNSW_TOOLBOX_CODE_CANCELLED);
    hnsw_toolbox_token_free(token);

    snprintf(request, sizeof request,
             "{\"persist_dir\": \"%s\", \"output_dir\": \"%s/repaired\"}", argv[1], argv[2]);
    if (finish("repair", hnsw_toolbox_repair_store(request)) != 0) {
        return 1;
    }
    status |= refused(hnsw_toolbox_repair_store(request), HNSW_TOOLBOX_CODE_UNUSABLE_PATH);

    snprintf(request, sizeof request,
             "{\"sources\": [\"%s/all\"], \"into_dir\": \"%s/repaired\", \"output_dir\": \"%s/imported\","
             " \"on_conflict\": \"skip\"}",
             argv[2], argv[2], argv[2]);
    if (finish("import", hnsw_toolbox_import(request)) != 0) {
        return 1;
    }
    status |= refused(hnsw_toolbox_import(request), HNSW_TOOLBOX_CODE_UNUSABLE_PATH);

    snprintf(request, sizeof request,
             "{\"persist_dir\": \"%s\", \"output_path\": \"%s/never\", \"collections\": [\"nobody\"]}",
             argv[1], argv[2]);
    status |= refused(hnsw_toolbox_export(request), HNSW_TOOLBOX_CODE_INVALID_ARGUMENT);
    snprintf(request, sizeof request, "{\"persist_dir\": \"%s\"}", argv[2]);
    status |= refused(hnsw_toolbox_list_collections(request), HNSW_TOOLBOX_CODE_UNUSABLE_PATH);
    status |= refused(hnsw_toolbox_repair_store(request), HNSW_TOOLBOX_CODE_INVALID_ARGUMENT);
    status |= refused(hnsw_toolbox_list_collections("{}"), HNSW_TOOLBOX_CODE_INVALID_ARGUMENT);
    status |= refused(hnsw_toolbox_export(NULL), HNSW_TOOLBOX_CODE_INVALID_REQUEST);
    return status;
}
