;; A program for preview 1 whose heap is all of its memory, from 0 up: that is filled, and nothing but what it asks for may change in it,
;; nor may it grow but by what the program grows it by. Exits with a code that says what was wrong.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $at (mut i32) (i32.const 4096))

  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 65536))
    ;; All results are below 4096.
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (drop (call $args_get (i32.const 512) (i32.const 1024)))
    (drop (call $environ_sizes_get (i32.const 8) (i32.const 12)))
    (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 16)))
    (drop (call $fd_prestat_get (i32.const 3) (i32.const 24)))
    (i32.store (i32.const 32) (i32.const 2048))
    (i32.store (i32.const 36) (i32.const 1024))
    (drop (call $fd_read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 40)))
    (i32.store (i32.const 36) (i32.load (i32.const 40)))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))
    ;; It is as large as it was, and the next page is the program's.
    (if (i32.ne (memory.size) (i32.const 1)) (then (call $exit (i32.const 10))))
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then (call $exit (i32.const 11))))
    (loop $next
      (if (i32.ne (i32.load8_u (global.get $at)) (i32.const 0xaa)) (then (call $exit (i32.const 12))))
      (global.set $at (i32.add (global.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (global.get $at) (i32.const 65536))))
    (loop $next
      (if (i32.load8_u (global.get $at)) (then (call $exit (i32.const 13))))
      (global.set $at (i32.add (global.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (global.get $at) (i32.const 131072))))))
