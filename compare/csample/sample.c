/*
 * A receiver in the manner of the PROXY protocol's section 9, for TCP over IPv4 and IPv6: the
 * header's bytes are looked at where they were received, addresses go to their final place, and
 * inet_pton reads those of version 1. What the sample leaves to its reader is done with the least
 * that is right: strict ports, a single space between fields, and TLVs that fill the block.
 */
#include "sample.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

static const char v2sig[12] = "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A";

struct v2 {
	uint8_t sig[12];
	uint8_t ver_cmd;
	uint8_t fam;
	uint16_t len;
	union {
		struct {
			uint32_t src_addr, dst_addr;
			uint16_t src_port, dst_port;
		} ip4;
		struct {
			uint8_t src_addr[16], dst_addr[16];
			uint16_t src_port, dst_port;
		} ip6;
	} addr;
} __attribute__((packed));

/* Reads a decimal port that ends at end. */
static int read_port(const char *p, const char *end, uint16_t *port)
{
	unsigned int n = 0;

	if (p == end || (*p == '0' && p + 1 != end))
		return -1;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return -1;
		n = n * 10 + (*p - '0');
		if (n > 65535)
			return -1;
	}
	*port = htons(n);
	return 0;
}

/* Reads source, destination and ports of a line that ends at end, a NUL. */
static int read_v1(char *p, char *end, int family, struct sample *s)
{
	struct sockaddr_in *from4 = (struct sockaddr_in *)&s->from;
	struct sockaddr_in *to4 = (struct sockaddr_in *)&s->to;
	struct sockaddr_in6 *from6 = (struct sockaddr_in6 *)&s->from;
	struct sockaddr_in6 *to6 = (struct sockaddr_in6 *)&s->to;
	char *source = p, *destination, *source_port, *destination_port;
	int ok;

	if (!(destination = memchr(source, ' ', end - source)))
		return -1;
	*destination++ = '\0';
	if (!(source_port = memchr(destination, ' ', end - destination))) {
		destination[-1] = ' ';
		return -1;
	}
	*source_port++ = '\0';
	if (family == AF_INET) {
		from4->sin_family = to4->sin_family = AF_INET;
		ok = inet_pton(AF_INET, source, &from4->sin_addr) == 1 &&
		     inet_pton(AF_INET, destination, &to4->sin_addr) == 1;
	} else {
		from6->sin6_family = to6->sin6_family = AF_INET6;
		ok = inet_pton(AF_INET6, source, &from6->sin6_addr) == 1 &&
		     inet_pton(AF_INET6, destination, &to6->sin6_addr) == 1;
	}
	destination[-1] = source_port[-1] = ' ';
	if (!ok || !(destination_port = memchr(source_port, ' ', end - source_port)))
		return -1;
	destination_port++;
	/* sin_port and sin6_port are at the same place */
	return read_port(source_port, destination_port - 1, &from4->sin_port) == 0 &&
	       read_port(destination_port, end, &to4->sin_port) == 0 ? 0 : -1;
}

__attribute__((noinline))
int sample_parse(char *line, size_t len, struct sample *s)
{
	const struct v2 *v2 = (const struct v2 *)line;

	if (len >= 16 && memcmp(v2, v2sig, 12) == 0 && (v2->ver_cmd & 0xF0) == 0x20) {
		size_t size = 16 + ntohs(v2->len);

		if (len < size)
			return 0;
		switch (v2->ver_cmd & 0xF) {
		case 0x01:
			switch (v2->fam) {
			case 0x11: {
				struct sockaddr_in *from = (struct sockaddr_in *)&s->from;
				struct sockaddr_in *to = (struct sockaddr_in *)&s->to;

				if (size < 16 + sizeof v2->addr.ip4)
					return -1;
				from->sin_family = AF_INET;
				from->sin_addr.s_addr = v2->addr.ip4.src_addr;
				from->sin_port = v2->addr.ip4.src_port;
				to->sin_family = AF_INET;
				to->sin_addr.s_addr = v2->addr.ip4.dst_addr;
				to->sin_port = v2->addr.ip4.dst_port;
				break;
			}
			case 0x21: {
				struct sockaddr_in6 *from = (struct sockaddr_in6 *)&s->from;
				struct sockaddr_in6 *to = (struct sockaddr_in6 *)&s->to;

				if (size < 16 + sizeof v2->addr.ip6)
					return -1;
				from->sin6_family = AF_INET6;
				memcpy(&from->sin6_addr, v2->addr.ip6.src_addr, 16);
				from->sin6_port = v2->addr.ip6.src_port;
				to->sin6_family = AF_INET6;
				memcpy(&to->sin6_addr, v2->addr.ip6.dst_addr, 16);
				to->sin6_port = v2->addr.ip6.dst_port;
				break;
			}
			}
			break;
		case 0x00:
			break;
		default:
			return -1;
		}
		return size;
	}
	if (len >= 8 && memcmp(line, "PROXY", 5) == 0) {
		char *end = memchr(line, '\r', (len < 107 ? len : 107) - 1);
		int result = -1;

		if (!end || end[1] != '\n')
			return -1;
		*end = '\0';
		if (memcmp(line, "PROXY TCP4 ", 11) == 0)
			result = read_v1(line + 11, end, AF_INET, s);
		else if (memcmp(line, "PROXY TCP6 ", 11) == 0)
			result = read_v1(line + 11, end, AF_INET6, s);
		else if (memcmp(line, "PROXY UNKNOWN", 13) == 0)
			result = 0;
		*end = '\r';
		return result < 0 ? -1 : end + 2 - line;
	}
	return -1;
}

__attribute__((noinline))
int sample_walk(char *line, size_t len, struct sample *s)
{
	int size = sample_parse(line, len, s);
	const uint8_t *p, *end;

	if (size <= 0)
		return size;
	p = (const uint8_t *)line + 16 + ((uint8_t)line[13] == 0x11 ? 12 : 36);
	end = (const uint8_t *)line + size;
	while (p < end) {
		size_t n;

		if (end - p < 3 || (n = p[1] << 8 | p[2]) > (size_t)(end - p - 3))
			return -1;
		s->walked += p[0] + n;
		p += 3 + n;
	}
	return size;
}

/* The compiler must take the line for another one each time. */
#define LOOP(call) do {                                       \
	int result = 0;                                       \
	while (n-- > 0) {                                     \
		__asm__ volatile("" : : "r"(line) : "memory"); \
		result = call;                                \
	}                                                     \
	return result;                                        \
} while (0)

int sample_parse_loop(char *line, size_t len, struct sample *s, long n)
{
	LOOP(sample_parse(line, len, s));
}

int sample_walk_loop(char *line, size_t len, struct sample *s, long n)
{
	LOOP(sample_walk(line, len, s));
}
