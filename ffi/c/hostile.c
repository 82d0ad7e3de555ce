/* Loads the library at run time and misuses it repeatedly from several threads. Every call must
 * return, and valgrind must find no error and no leak.
 *
 *     ./hostile LIBRARY INDEX_DIR OUTPUT_DIR
 */

#define _GNU_SOURCE /* RTLD_NOLOAD */
#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hnsw_toolbox.h"

enum { THREADS = 4, ROUNDS = 2 };

static const char *library, *index_dir, *output_dir;

static char *(*extract)(const char *);
static char *(*build)(const char *);
static char *(*inspect)(const char *);
static char *(*verify)(const char *);
static const char *(*last_error)(void);
static uint32_t (*last_error_code)(void);
static const char *(*last_error_json)(void);
static void (*free_string)(char *);
static uint64_t (*token_new)(void);
static bool (*token_cancel)(uint64_t);
static bool (*token_free)(uint64_t);
static uint64_t (*index_open)(const char *);
static bool (*index_shape)(uint64_t, uint64_t *, uint64_t *);
static bool (*index_search)(uint64_t, const float *, uint64_t, uint64_t, uint64_t, uint64_t,
                            uint64_t, uint64_t *, float *, uint64_t *);
static bool (*index_close)(uint64_t);

static void *symbol(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

/* POSIX guarantees that a function's address survives the conversion. */
#define BIND(variable, name) (*(void **)&(variable) = symbol(handle, "hnsw_toolbox_" name))

static void *load(void) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    BIND(extract, "extract_index");
    BIND(build, "build_index");
    BIND(inspect, "inspect");
    BIND(verify, "verify");
    BIND(last_error, "get_last_error");
    BIND(last_error_code, "get_last_error_code");
    BIND(last_error_json, "get_last_error_json");
    BIND(free_string, "free_string");
    BIND(token_new, "token_new");
    BIND(token_cancel, "token_cancel");
    BIND(token_free, "token_free");
    BIND(index_open, "index_open");
    BIND(index_shape, "index_shape");
    BIND(index_search, "index_search");
    BIND(index_close, "index_close");
    return handle;
}

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition,                     \
                    last_error() ? last_error() : "no error");                             \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

static void refused(char *(*call)(const char *), const char *request, uint32_t code,
                    const char *says) {
    CHECK(call(request) == NULL);
    CHECK(last_error_code() == code);
    CHECK(strstr(last_error(), says) != NULL);
    CHECK(strstr(last_error_json(), "\"code\":") != NULL);
}

/* Opens, searches and closes an index in every wrong way, and in one right way. */
static void misuse_index(const char *path) {
    enum { K = 4 };
    char request[8192];
    float query[2 * 5] = {0.5f};
    /* One guard value after the last place. */
    uint64_t labels[2 * K + 1], found[2 + 1], vectors = 0, dimension = 0;
    float distances[2 * K + 1];

    CHECK(index_open(NULL) == 0 && last_error_code() == 100);
    CHECK(index_open("{\"index_path\": \"/nowhere\"}") == 0 && last_error_code() == 300);
    snprintf(request, sizeof request, "{\"index_path\": \"%s/header.bin\"}", index_dir);
    CHECK(index_open(request) == 0 && last_error_code() == 200);
    snprintf(request, sizeof request, "{\"index_path\": \"%s\", \"metric\": \"cosine\"}", path);
    CHECK(index_open(request) == 0 && last_error_code() == 101);
    snprintf(request, sizeof request, "{\"index_path\": \"%s\"}", path);
    uint64_t index = index_open(request);
    CHECK(index != 0 && last_error() == NULL);
    CHECK(index_shape(index, &vectors, &dimension) && vectors == 960 && dimension == 5);
    CHECK(index_shape(index, NULL, NULL) && !index_shape(0, NULL, NULL));

    labels[2 * K] = found[2] = 77, distances[2 * K] = 7;
    CHECK(index_search(index, query, 2, 5, K, 20, 2, labels, distances, found));
    CHECK(found[0] == K && found[1] == K && distances[0] <= distances[K - 1]);
    CHECK(labels[2 * K] == 77 && found[2] == 77 && distances[2 * K] == 7);
    CHECK(index_search(index, query, 1, 5, K, 0, 1, NULL, NULL, NULL));
    CHECK(index_search(index, NULL, 0, 5, K, 20, 1, NULL, NULL, NULL));
    CHECK(!index_search(index, NULL, 1, 5, K, 20, 1, NULL, NULL, NULL));
    CHECK(!index_search(index, query, 1, 4, K, 20, 1, NULL, NULL, NULL));
    CHECK(!index_search(index, query, 1, 5, 0, 20, 1, NULL, NULL, NULL));
    CHECK(!index_search(index, query, UINT64_MAX, 5, K, 20, 1, NULL, NULL, NULL));
    CHECK(last_error_code() == 101);
    CHECK(index_close(index) && !index_close(index));
    CHECK(!index_search(index, query, 1, 5, K, 20, 1, labels, distances, found));
    CHECK(strstr(last_error(), "open index") != NULL);
}

static void *misuse(void *argument) {
    int thread = *(int *)argument;
    char request[8192];
    size_t megabyte = 1 << 20;
    char *long_text = malloc(100 * megabyte + 1);
    CHECK(long_text != NULL);
    CHECK(last_error() == NULL && last_error_json() == NULL && last_error_code() == 0);

    for (int round = 0; round < ROUNDS; round++) {
        refused(extract, NULL, 100, "NULL");
        refused(build, NULL, 100, "NULL");
        refused(inspect, NULL, 100, "NULL");
        refused(verify, "[]", 100, "object");
        refused(inspect, "{\"index_dir\": 1}", 101, "index_dir");
        refused(verify, "{\"index_dir\": \"/nowhere\"}", 300, "/nowhere");
        refused(extract, "", 100, "JSON");
        refused(build, "\xff\xfe", 100, "UTF-8");
        refused(extract, "{}", 101, "index_dir");
        refused(build, "{\"bogus\": 1}", 101, "bogus");
        refused(build, "{\"input_path\": \"a\\u0000b\", \"output_path\": \"c\"}", 101, "input_path");
        refused(extract, "{\"index_dir\": \"/nowhere\", \"output_path\": \"/nowhere/out\"}", 300,
                "/nowhere");

        memset(long_text, '[', 100 * megabyte);
        long_text[100 * megabyte] = '\0';
        refused(extract, long_text, 100, "1048576");
        long_text[megabyte] = '\0';
        refused(build, long_text, 100, "recursion");

        snprintf(request, sizeof request,
                 "{\"index_dir\": \"%s\", \"output_path\": \"%s/out-%d.arrow\","
                 " \"output_format\": \"arrow_ipc\", \"metadata_path\": null, \"io\": \"%s\"}",
                 index_dir, output_dir, thread, round % 2 ? "read" : "mmap");
        char *response = extract(request);
        CHECK(response != NULL && last_error() == NULL);
        free_string(response);
        free_string(NULL);

        snprintf(request, sizeof request,
                 "{\"input_path\": \"%s/out-%d.arrow\", \"input_format\": \"arrow_ipc\","
                 " \"output_path\": \"%s/out-%d.hnsw\", \"m\": 4, \"ef_construction\": 4, \"engine\": \"native\", \"threads\": 1}",
                 output_dir, thread, output_dir, thread);
        response = build(request);
        CHECK(response != NULL && last_error() == NULL);
        free_string(response);

        snprintf(request, sizeof request, "{\"index_dir\": \"%s\"}", index_dir);
        response = inspect(request);
        CHECK(response != NULL && strstr(response, "\"cur_element_count\":1140") != NULL);
        free_string(response);
        response = verify(request);
        CHECK(response != NULL && strstr(response, "\"state\":\"healthy\"") != NULL);
        free_string(response);

        snprintf(request, sizeof request, "%s/out-%d.hnsw", output_dir, thread);
        misuse_index(request);

        uint64_t token = token_new();
        CHECK(token != 0 && token_cancel(token));
        snprintf(request, sizeof request,
                 "{\"index_dir\": \"%s\", \"output_path\": \"%s/never\", \"token\": %llu}", index_dir,
                 output_dir, (unsigned long long)token);
        refused(extract, request, 400, "cancelled");
        CHECK(token_free(token));
        CHECK(!token_free(token) && !token_cancel(token));
        refused(extract, request, 101, "token");
    }
    free(long_text);
    return NULL; /* the thread ends with its last error still set */
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s LIBRARY INDEX_DIR OUTPUT_DIR\n", argv[0]);
        return 2;
    }
    library = argv[1], index_dir = argv[2], output_dir = argv[3];

    for (int time = 0; time < 2; time++) {
        void *handle = load();
        pthread_t threads[THREADS];
        int numbers[THREADS];
        for (int i = 0; i < THREADS; i++) {
            numbers[i] = i;
            CHECK(pthread_create(&threads[i], NULL, misuse, &numbers[i]) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
        }
        CHECK(dlclose(handle) == 0);
        /* The library stays mapped, so its functions can still be called. */
        void *still = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
        CHECK(still != NULL);
        CHECK(token_free(token_new()));
        CHECK(dlclose(still) == 0);
    }
    return 0;
}
