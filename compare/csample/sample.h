#ifndef SAMPLE_H
#define SAMPLE_H

#include <stddef.h>
#include <sys/socket.h>

/* What a receiver has learned from a header. */
struct sample {
	struct sockaddr_storage from, to;
	size_t walked; /* types and lengths of the TLVs, added up */
};

/* Reads the header that line, of len bytes, begins with: > 0 is its size, 0 asks for more
 * bytes, and < 0 refuses. A version 1 line is changed on the way and put right again. */
int sample_parse(char *line, size_t len, struct sample *s);

/* The same, and then walks the TLVs behind the addresses. */
int sample_walk(char *line, size_t len, struct sample *s);

/* Do it n times; the result is the last one's. */
int sample_parse_loop(char *line, size_t len, struct sample *s, long n);
int sample_walk_loop(char *line, size_t len, struct sample *s, long n);

#endif
