/* One flat JSON object of strings and whole numbers: what an order is. Anything else that is JSON and flat is taken
 * as JSON_OTHER, which no order wants; what is nested, too many or no JSON is refused. */
#ifndef WARDEN_JSON_H
#define WARDEN_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_MEMBERS 8
#define JSON_BYTES 64 /* of a key or a string, longer than any that an order knows */

/* JSON_OTHER: true, false, null, a number that is no whole one or needs more than 64 bits, a string that is too long
 * or holds half a surrogate pair. */
typedef enum json_kind { JSON_STRING, JSON_INTEGER, JSON_OTHER } json_kind;

/* Bytes as they are, which may hold zeros: UTF-8. */
typedef struct json_string {
    char bytes[JSON_BYTES];
    size_t length;
    bool whole; /* false: see JSON_OTHER */
} json_string;

typedef struct json_member {
    json_string key, string;
    json_kind kind;
    int64_t integer;
} json_member;

typedef struct json_object {
    json_member member[JSON_MEMBERS];
    size_t count;
} json_object;

/* False for whatever is not exactly one such object in UTF-8. */
bool json_parse(const char *data, size_t length, json_object *object);

/* The member of that name, the last if there are several; NULL if there is none. */
const json_member *json_find(const json_object *object, const char *key);

bool json_is(const json_string *string, const char *word);

#endif
