# The guest of tests/machine.rs: it says a word on the first serial port, then does what the first letter of its command line
# says. Multiboot (GNU Multiboot specification 0.6.96), so that QEMU starts it as a kernel without being one.
#
# Built by hand, since it never changes:
#   as --32 guest.S -o guest.o && ld -m elf_i386 -Ttext 0x100000 --oformat binary guest.o -o guest.bin

        .set    FLAGS, 0x10000                  # the addresses are given here, there is no ELF header
        .globl  _start
_start:
header:
        .long   0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
        .long   header, _start, 0, 0, start

start:
        movl    $0x80000, %esp
        movl    %ebx, %ebp
        # The kernel's name comes first on Multiboot's command line: the letter is the last one.
        movl    16(%ebp), %esi
1:      lodsb
        testb   %al, %al
        jnz     1b
        movb    -2(%esi), %bl
        movl    $hello, %esi
        call    say
        cmpb    $'r', %bl
        je      reset
        cmpb    $'o', %bl
        je      power_off
        cmpb    $'p', %bl
        je      panic
        cmpb    $'w', %bl
        je      wait
        movl    $huh, %esi
        call    say
wait:   hlt
        jmp     wait

reset:                                          # Intel ICH9, 13.7.5 RST_CNT
        movw    $0xcf9, %dx
        movb    $6, %al
        outb    %al, %dx
        jmp     wait

power_off:                                      # ACPI PM1a_CNT where SeaBIOS puts it: SLP_EN, type 0
        movw    $0x604, %dx
        movw    $0x2000, %ax
        outw    %ax, %dx
        jmp     wait

panic:                                          # QEMU docs/specs/pvpanic.txt: PCI 1b36:0011, a byte in BAR 0
        movl    $0x80000000, %ecx
1:      movl    %ecx, %eax
        movw    $0xcf8, %dx
        outl    %eax, %dx
        movw    $0xcfc, %dx
        inl     %dx, %eax
        cmpl    $0x00111b36, %eax
        je      2f
        addl    $0x800, %ecx
        cmpl    $0x80010000, %ecx
        jb      1b
        movl    $huh, %esi
        call    say
        jmp     wait
2:      leal    0x10(%ecx), %eax
        movw    $0xcf8, %dx
        outl    %eax, %dx
        movw    $0xcfc, %dx
        inl     %dx, %eax
        andl    $0xfffffff0, %eax
        movb    $1, (%eax)
        jmp     wait

say:    lodsb
        testb   %al, %al
        jz      3f
        movb    %al, %cl
        movw    $0x3fd, %dx
2:      inb     %dx, %al
        testb   $0x20, %al
        jz      2b
        movw    $0x3f8, %dx
        movb    %cl, %al
        outb    %al, %dx
        jmp     say
3:      ret

hello:  .asciz  "[    0.000001] Linux version of the tests\r\n[    0.000002] luo: hello\n"
huh:    .asciz  "not that\n"
