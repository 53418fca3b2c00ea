/* Prints the CRC-32 of the standard input. */
#include <inttypes.h>
#include <stdio.h>

#include "crc32.h"

int main(void)
{
    unsigned char buffer[1 << 16];
    uint32_t crc = 0;
    size_t size;

    while ((size = fread(buffer, 1, sizeof buffer, stdin)) > 0)
        crc = crc32(crc, buffer, size);
    if (ferror(stdin)) {
        perror("crc32");
        return 1;
    }
    printf("%08" PRIx32 "\n", crc);
    return fclose(stdout) != 0;
}
