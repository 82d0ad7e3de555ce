/* Verifies and extracts a Chroma vector segment directory, and builds an HNSW index from that.
 *
 *     cc -I ffi/include -o example ffi/c/example.c -L target/release -lhnsw_toolbox
 *     LD_LIBRARY_PATH=target/release ./example INDEX_DIR OUTPUT_DIR
 */

#include <stdio.h>
#include <stdlib.h>

#include "hnsw_toolbox.h"

/* Prints the response and releases it, or prints the error. */
static int finish(const char *what, char *response) {
    if (response == NULL) {
        fprintf(stderr, "%s failed with code %u: %s\n", what,
                (unsigned)hnsw_toolbox_get_last_error_code(), hnsw_toolbox_get_last_error());
        if (hnsw_toolbox_get_last_error_code() == HNSW_TOOLBOX_CODE_CORRUPT_INDEX) {
            fprintf(stderr, "file, field and value as JSON: %s\n",
                    hnsw_toolbox_get_last_error_json());
        }
        return 1;
    }
    printf("%s\n", response);
    hnsw_toolbox_free_string(response);
    return 0;
}

/* Prints the three nearest vectors to the origin. */
static int search(const char *directory) {
    enum { K = 3, EF = 50 };
    char request[8192];
    snprintf(request, sizeof request, "{\"index_path\": \"%s/vectors.hnsw\"}", directory);
    uint64_t index = hnsw_toolbox_index_open(request);
    uint64_t vectors = 0, dimension = 0;
    if (index == 0 || !hnsw_toolbox_index_shape(index, &vectors, &dimension)) {
        fprintf(stderr, "open failed: %s\n", hnsw_toolbox_get_last_error());
        return 1;
    }
    float *query = calloc(dimension, sizeof *query);
    uint64_t labels[K], found = 0;
    float distances[K];
    int status = 1;
    if (query != NULL && hnsw_toolbox_index_search(index, query, 1, dimension, K, EF, 1, labels,
                                                   distances, &found)) {
        for (uint64_t i = 0; i < found; i++) {
            printf("label %llu of %llu, distance %g\n", (unsigned long long)labels[i],
                   (unsigned long long)vectors, distances[i]);
        }
        status = 0;
    } else {
        fprintf(stderr, "search failed: %s\n", hnsw_toolbox_get_last_error());
    }
    free(query);
    hnsw_toolbox_index_close(index);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s INDEX_DIR OUTPUT_DIR\n", argv[0]);
        return 2;
    }
    if (hnsw_toolbox_abi_version() != HNSW_TOOLBOX_ABI_VERSION) {
        fprintf(stderr, "the library has another ABI version than this program\n");
        return 1;
    }
    printf("hnsw-toolbox %s\n", hnsw_toolbox_version());

    /* With paths from elsewhere, build the request with a JSON library: paths need escapes. */
    char request[8192];
    snprintf(request, sizeof request, "{\"index_dir\": \"%s\"}", argv[1]);
    if (finish("verify", hnsw_toolbox_verify(request)) != 0) {
        return 1;
    }
    snprintf(request, sizeof request,
             "{\"index_dir\": \"%s\", \"output_path\": \"%s/vectors.parquet\"}", argv[1], argv[2]);
    if (finish("extract", hnsw_toolbox_extract_index(request)) != 0) {
        return 1;
    }

    /* With the token, another thread could watch and stop the build. */
    uint64_t token = hnsw_toolbox_token_new();
    snprintf(request, sizeof request,
             "{\"input_path\": \"%s/vectors.parquet\", \"output_path\": \"%s/vectors.hnsw\","
             " \"metric\": \"squared_euclidean\", \"m\": 8, \"ef_construction\": 40, \"seed\": 42, \"token\": %llu}",
             argv[2], argv[2], (unsigned long long)token);
    int status = finish("build", hnsw_toolbox_build_index(request));
    uint64_t done = 0, total = 0;
    if (status == 0 && hnsw_toolbox_token_progress(token, &done, &total)) {
        printf("%llu of %llu\n", (unsigned long long)done, (unsigned long long)total);
    }
    hnsw_toolbox_token_free(token);
    return status == 0 ? search(argv[2]) : status;
}
