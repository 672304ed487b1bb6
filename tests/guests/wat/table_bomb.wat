;; Grows a table without end; the memory limit does not count it.
(module
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000000)) (i32.const -1))))
    unreachable))
