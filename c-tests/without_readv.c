/* Runs a program under a seccomp filter that refuses process_vm_readv() and process_vm_writev(), as containers do:

       without_readv ERRNO PROGRAM [ARGUMENTS...]

   ERRNO is the number that both fail with: 1 is EPERM, 38 ENOSYS. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    if (count < 3) {
        fprintf(stderr, "usage: without_readv ERRNO PROGRAM [ARGUMENTS...]\n");
        return 64;
    }
    unsigned int refused = (unsigned int)atoi(arguments[1]);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (refused & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("without_readv: seccomp");
        return 1;
    }
    execvp(arguments[2], arguments + 2);
    perror(arguments[2]);
    return 127;
}
