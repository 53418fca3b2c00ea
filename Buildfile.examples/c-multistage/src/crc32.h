#ifndef CRC32_H
#define CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The CRC-32 of IEEE 802.3 of what `crc` stands for (0 at first) followed by these bytes. */
uint32_t crc32(uint32_t crc, const unsigned char *data, size_t size);

#endif
