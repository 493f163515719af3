# What `luqual` runs to see whether an accelerator runs real guest code: from the reset vector to long mode, then one BMI
# and one AVX instruction (where a KVM that only seems to work was seen to die), then a word to QEMU's isa-debug-exit.
#
# Built by hand, since it never changes:
#   as --64 probe.S -o probe.o && ld -m elf_x86_64 -Ttext 0xf0000 --oformat binary probe.o -o probe.bin
# It is 64 KiB, mapped by `-bios` below 4 GiB and below 1 MiB.

        .code16
        .globl _start
_start:
        .org 0x1000
start16:
        cli
        lgdtl   %cs:(gdt_pointer - _start)
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $0x08, $(0xf0000 + start32 - _start)

        .code32
start32:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        # Page tables in the first 12 KiB behind 64 KiB: the first 2 MiB, identity.
        movl    $0x10000, %edi
        xorl    %eax, %eax
        movl    $0xc00, %ecx
        rep stosl
        movl    $0x11003, 0x10000
        movl    $0x12003, 0x11000
        movl    $0x83, 0x12000
        # CR4: PAE, OSFXSR, OSXSAVE.
        movl    $0x40220, %eax
        movl    %eax, %cr4
        movl    $0x10000, %eax
        movl    %eax, %cr3
        # EFER.LME
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    $0x80000001, %eax
        movl    %eax, %cr0
        ljmpl   $0x18, $(0xf0000 + start64 - _start)

        .code64
start64:
        # CPUID leaf 7: without BMI1 and AVX2 there is nothing to try, and the guest's kernel would not try either.
        movl    $7, %eax
        xorl    %ecx, %ecx
        cpuid
        andl    $0x28, %ebx
        cmpl    $0x28, %ebx
        jne     done
        # XCR0: x87, SSE, AVX.
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        movl    $7, %eax
        xsetbv
        movl    $0xf0f0, %eax
        movl    $0xffff, %ebx
        andn    %ebx, %eax, %ecx
        cmpl    $0x0f0f, %ecx
        jne     failed
        vmovd   %ecx, %xmm0
        vpbroadcastd %xmm0, %ymm1
        vpaddd  %ymm1, %ymm1, %ymm2
        vmovd   %xmm2, %eax
        cmpl    $0x1e1e, %eax
        jne     failed
done:
        movb    $0x2a, %al
        outb    %al, $0xf4
failed:
        movb    $0x01, %al
        outb    %al, $0xf4
        hlt

        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff
        .quad   0x00cf93000000ffff
        .quad   0x00af9b000000ffff
gdt_pointer:
        .word   31
        .long   0xf0000 + gdt - _start

        .org 0xfff0
        .code16
        jmp     start16
        .org 0x10000
