/* A wide-area network on one machine: carries IPv4 packets between network namespaces, each a fixed time later.
 *
 *     delay NANOSECONDS DEVICE NAMESPACE...
 *
 * DEVICE is a TUN interface that stands in every one of the namespaces (under /run/netns); namespaces.py makes both.
 * The last byte of a packet's destination says whose it is: 1 for the first namespace, 2 for the second, and so on.
 * Writes "ready" when it carries, and ends with SIGTERM or when its standard input is closed. It looks at no more of
 * a packet than that byte, limits no rate, and drops a packet only when a receiver's device refuses it. Segments travel
 * joined, with the header that says how to cut them, as network cards take and give them: that spares the processor.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_LINKS = 16,
    HEADER = sizeof(struct virtio_net_hdr), /* before each packet */
    LARGEST = HEADER + 65536,
    VERSION = HEADER,
    LAST_BYTE_OF_DESTINATION = HEADER + 19,
};

struct packet {
    struct packet *next;
    long long due; /* nanoseconds on the monotonic clock */
    int link;
    size_t size;
    unsigned char bytes[];
};

/* One delay for all, hence one queue: what comes first is due first. */
static struct packet *first, **last = &first;
static int links[MOST_LINKS], count;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int attach(const char *device, const char *namespace) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int entrance = open(path, O_RDONLY | O_CLOEXEC);
    if (entrance < 0 || setns(entrance, CLONE_NEWNET) < 0)
        die(path);
    close(entrance);
    int link = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (link < 0)
        die("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (ioctl(link, TUNSETIFF, &request) < 0 || ioctl(link, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0)
        die(device);
    return link;
}

static void take(int from, long long delay) {
    static unsigned char bytes[LARGEST];
    ssize_t size;
    while ((size = read(links[from], bytes, sizeof bytes)) > 0) {
        int to = size > LAST_BYTE_OF_DESTINATION && bytes[VERSION] >> 4 == 4 ? bytes[LAST_BYTE_OF_DESTINATION] - 1 : -1;
        if (to < 0 || to >= count)
            continue; /* IPv6 and broadcasts: nobody's here */
        struct packet *packet = malloc(sizeof *packet + size);
        if (!packet)
            die("malloc");
        *packet = (struct packet){.due = now() + delay, .link = to, .size = size};
        memcpy(packet->bytes, bytes, size);
        *last = packet;
        last = &packet->next;
    }
}

static void deliver(void) {
    while (first && first->due <= now()) {
        struct packet *packet = first;
        if (write(links[packet->link], packet->bytes, packet->size) < 0 && errno != EAGAIN && errno != ENOBUFS)
            die("a packet could not be delivered");
        first = packet->next;
        if (!first)
            last = &first;
        free(packet);
    }
}

int main(int arguments, char **argument) {
    if (arguments < 4 || arguments - 3 > MOST_LINKS) {
        fprintf(stderr, "usage: delay NANOSECONDS DEVICE NAMESPACE...\n");
        return 2;
    }
    long long delay = atoll(argument[1]);
    struct pollfd waiting[MOST_LINKS + 1];
    for (count = 0; count < arguments - 3; count++) {
        links[count] = attach(argument[2], argument[count + 3]);
        waiting[count] = (struct pollfd){.fd = links[count], .events = POLLIN};
    }
    waiting[count] = (struct pollfd){.fd = STDIN_FILENO}; /* whoever started us has gone when this is closed */
    printf("ready\n");
    fflush(stdout);
    while (!waiting[count].revents) {
        long long left = first ? first->due - now() : 0;
        struct timespec patience = {.tv_sec = left > 0 ? left / 1000000000 : 0, .tv_nsec = left > 0 ? left % 1000000000 : 0};
        if (ppoll(waiting, count + 1, first ? &patience : NULL, NULL) < 0 && errno != EINTR)
            die("ppoll");
        for (int link = 0; link < count; link++)
            if (waiting[link].revents)
                take(link, delay);
        deliver();
    }
    return 0;
}
