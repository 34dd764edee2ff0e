"""hadal data: build, inspect, export, import; what is refused, and what an interruption or a full disk leaves."""
import gzip, json, os, pathlib, re, shutil, signal, struct, subprocess, time, zlib
from harness import Case, DATA, HADAL, MINI, main, run

WIKI = DATA / "tokenizer/vectors/wikitext-8192.txt"
V3 = DATA / "tokenizer/deepseek-v3"


class Data(Case):
    def file(self, name, text):
        path = self.dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def build(self, *args, out="out"):
        """The statistics."""
        return json.loads(self.ok("data", "build", self.dir / out, "--tokenizer", MINI, "--json", *args))

    def tree(self, name):
        return {p.name: p.read_bytes() for p in (self.dir / name).iterdir()}

    def document(self, number, *args, out="out"):
        return self.ok("data", "inspect", self.dir / out, "--document", number, "--tokenizer", MINI, *args).decode()

    def no_rests(self):
        self.assertEqual([p.name for p in self.dir.iterdir() if ".partial" in p.name or ".tmp" in p.name], [])


class Build(Data):
    def test_text_becomes_tokens_and_is_found_again(self):
        info = self.build(WIKI, "--fim-rate", "0")
        train = info["sources"][0]["train"]
        ids = json.loads(self.ok("tokenizer", "encode", MINI, "--no-special", stdin=WIKI.read_bytes()))
        self.assertEqual((train["documents"], train["tokens"], train["text_bytes"]), (1, len(ids) + 1, WIKI.stat().st_size))
        self.assertEqual(self.document(0), WIKI.read_text() + "<｜end▁of▁sentence｜>")
        # The tokens as they lie in the file, behind 256 bytes of header.
        shard = (self.dir / "out" / train["shards"][0]["file"]).read_bytes()
        self.assertEqual(list(struct.unpack_from(f"<{len(ids) + 1}H", shard, 256)), ids + [1])
        table = self.ok("data", "inspect", self.dir / "out", "--verify").decode()
        self.assertTrue(table.endswith("all bytes are as they were written\n"))
        self.assertRegex(table, rf"text +train +1 +{len(ids) + 1} +{WIKI.stat().st_size} ")
        self.assertIn("text: 1 file; documents read 1, duplicates 0, empty 0, not UTF-8 0", table)
        self.assertEqual(json.loads(self.ok("data", "inspect", self.dir / "out", "--json")), info)
        self.assertEqual(json.loads((self.dir / "out/dataset.json").read_text()), info)

    def test_every_packing_gives_the_same_bytes(self):
        lines = "".join(json.dumps({"id": i, "text": f"Line {i} of many."}) + "\n" for i in range(300))
        plain = self.file("a.jsonl", lines)
        self.file("a.jsonl.gz", gzip.compress(lines[:5000].encode()) + gzip.compress(lines[5000:].encode()))
        shutil.copy(plain, self.dir / "b.jsonl")
        packed = ["a.jsonl", "a.jsonl.gz"]
        if shutil.which("zstd"):
            subprocess.run(["zstd", "-q", self.dir / "b.jsonl"], check=True)
            packed.append("b.jsonl.zst")
        trees = []
        for name in packed:
            self.build(self.dir / name, "--validation", "0.1", out="d-" + name)
            trees.append(self.tree("d-" + name))
        self.assertTrue(all(t == trees[0] for t in trees))
        self.assertEqual(len(trees[0]), 3)

    def test_mixtures(self):
        self.file("books/a.txt", "One book.")
        self.file("books/b.txt", "Another book.")
        self.file("code.jsonl", '{"content": "x = 1"}\n{"content": "y = 2"}\n')
        info = self.build("--source", f"books={self.dir}/books,weight=1,epochs=2", "--source", f"code={self.dir}/code.jsonl,weight=3", "--text-field", "content")
        self.assertEqual([(s["name"], s["weight"], s["epochs"], s["train"]["documents"]) for s in info["sources"]], [("books", 1, 2, 2), ("code", 3, None, 2)])
        toml = self.file("mix.toml", '[[source]]\nname = "books"\npath = "books"\nweight = 1\nepochs = 2\n[[source]]\nname = "code"\npath = ["code.jsonl"]\nweight = 3\n')
        self.assertEqual(self.build("--sources", toml, "--text-field", "content", out="other"), info)
        self.assertEqual(self.tree("out"), self.tree("other"))
        self.assertIn("all", self.ok("data", "inspect", self.dir / "out").decode())
        self.refused("has several sources; name one by --source: books, code", "data", "inspect", self.dir / "out", "--document", "0", "--tokenizer", MINI)
        self.assertEqual(self.document(1, "--source", "code"), "y = 2<｜end▁of▁sentence｜>")

    def test_documents_and_fill_in_the_middle(self):
        text = self.file("t", "First one.\n\nSecond one,\ntwo lines.\n\nFirst one.\n")
        count = lambda how, out: self.build(text, "--documents", how, "--fim-rate", "0", out=out)["sources"][0]
        self.assertEqual([(s["documents_read"], s["duplicates"], s["empty"]) for s in (count(how, how) for how in ("file", "lines", "blank-lines"))], [(1, 0, 0), (6, 1, 2), (3, 1, 0)])
        self.assertEqual(self.document(1, out="blank-lines"), "Second one,\ntwo lines.<｜end▁of▁sentence｜>")
        info = self.build(text, "--documents", "blank-lines", "--fim-rate", "1", out="fim")
        self.assertEqual(info["sources"][0]["train"]["fim_documents"], 2)
        m = re.fullmatch("<｜fim▁begin｜>(.*)<｜fim▁hole｜>(.*)<｜fim▁end｜>(.*)<｜end▁of▁sentence｜>", self.document(1, out="fim"), re.S)
        self.assertEqual(m[1] + m[3] + m[2], "Second one,\ntwo lines.")
        self.build(text, "--documents", "blank-lines", "--fim-rate", "1", "--seed", "5", out="seed")
        self.assertNotEqual(self.document(1, out="seed"), self.document(1, out="fim"))

    def test_begin_and_end_tokens(self):
        text = self.file("t", "Hello.")
        self.build(text, "--bos", "on", "--eos", "off", "--fim-rate", "0")
        self.assertEqual(self.document(0), "<｜begin▁of▁sentence｜>Hello.")


class Refusals(Data):
    def refuse(self, fragment, *args):
        text = self.refused(fragment, "data", "build", self.dir / "out", "--tokenizer", MINI, *args)
        self.assertEqual(len(text.splitlines()), 1, text)
        self.assertFalse((self.dir / "out").exists())
        self.no_rests()

    def test_arguments(self):
        t = self.file("t", "Hello.")
        self.refuse("there is nothing to build from; name files, --source or --sources")
        self.refuse("--fim-rate: 2 is not between 0 and 1", t, "--fim-rate", "2")
        self.refuse("--validation: 1 is not at least 0 and below 1", t, "--validation", "1")
        self.refuse("--documents", t, "--documents", "words")
        self.refuse("wieght is not known; weight and epochs are", "--source", f"a={t},wieght=1")
        self.refuse("source text: is named twice", t, "--source", f"text={t}")
        self.refuse("--shard-size", t, "--shard-size", "many")
        self.refused("--tokenizer is required", "data", "build", self.dir / "out", t)
        self.refused("has no tokenizer", "data", "build", self.dir / "out", t, "--tokenizer", self.dir)
        self.refused("buidl is not a command (did you mean build?)", "data", "buidl")
        kimi = DATA / "tokenizer/made/kimi-like"
        self.refused("kimi-like: has no tokens for fill-in-the-middle", "data", "build", self.dir / "out", t, "--tokenizer", kimi)

    def test_texts(self):
        self.refuse("none: there is no such file", self.dir / "none")
        self.refuse("source text: its 1 file has no text", self.file("empty", ""))
        self.refuse("source text: its 1 file has no text", self.file("empty.jsonl", '{"text": ""}\n'))
        (self.dir / "nothing").mkdir()
        self.refuse("nothing: has no files", self.dir / "nothing")
        self.refuse("binary: byte 7 is zero; is it a text?", pathlib.Path(self.file("binary", b"\x7fELF\x02\x01\x01\x00rest")))
        self.refuse("latin: byte 3 (0xE9) is not UTF-8", self.file("latin", b"caf\xe9 au lait"))
        self.refuse("wide: is UTF-16 text", self.file("wide", "text".encode("utf-16")))
        self.refuse("cut.gz: is cut off: its gzip data has no end", self.file("cut.gz", gzip.compress(WIKI.read_bytes())[:-9]))
        damaged = bytearray(gzip.compress(WIKI.read_bytes()))
        damaged[-6] ^= 1
        self.refuse("damaged.gz: its gzip data is damaged", self.file("damaged.gz", bytes(damaged)))
        self.refuse("t.xz: is packed by xz", self.file("t.xz", b"\xfd7zXZ\x00"))
        self.refuse("no.gz: does not begin as a .gz file does", self.file("no.gz", b"Hello."))
        self.refuse("f.jsonl, line 2: has no field text, it has body", self.file("f.jsonl", '{"text": "a"}\n{"body": "b"}\n'))
        self.refuse("g.jsonl, line 1: text is not text", self.file("g.jsonl", '{"text": ["a"]}\n'))
        self.refuse("h.jsonl, line 1: not valid JSON", self.file("h.jsonl", '{"text": "a\n'))

    def test_invalid_text_may_be_skipped_or_repaired(self):
        t = self.file("t", b"caf\xe9\nplain\n")
        for how, documents in (("skip", 1), ("replace", 2)):
            s = self.build(t, "--documents", "lines", "--fim-rate", "0", "--invalid-utf8", how, out=how)["sources"][0]
            self.assertEqual((s["invalid"], s["train"]["documents"]), (1, documents))
        self.assertEqual(self.document(0, out="replace"), "caf�<｜end▁of▁sentence｜>")

    def test_what_is_there_already(self):
        t = self.file("t", "Hello.")
        self.build(t)
        self.refused("out: exists already; --overwrite replaces it", "data", "build", self.dir / "out", "--tokenizer", MINI, t)
        self.file("u", "Other.")
        self.build(self.dir / "u", "--overwrite", "--fim-rate", "0")
        self.assertEqual(self.document(0), "Other.<｜end▁of▁sentence｜>")
        self.no_rests()
        self.refused("exists and is no data set", "data", "build", self.dir, "--tokenizer", MINI, t, "--overwrite")

    def test_damaged_and_foreign_shards(self):
        info = self.build(WIKI)
        shard = self.dir / "out" / info["sources"][0]["train"]["shards"][0]["file"]
        good = shard.read_bytes()
        inspect = ("data", "inspect", self.dir / "out", "--verify")
        for change, says in ((good[:-1], "is cut off"), (good + b"x", "1 bytes more than its header says"), (b"x" + good[1:], "is no shard of `hadal data build`"),
                             (good[:300] + b"\xff" + good[301:], "bytes 256 to"), (good[:70] + b"\xff" + good[71:], "header is damaged"), (good[:-1] + bytes([good[-1] ^ 1]), "index is damaged")):
            shard.write_bytes(change)
            self.assertIn(shard.name, self.refused(says, *inspect))
        shard.write_bytes(good)
        self.ok(*inspect)
        self.refused(f"was built with another tokenizer than {V3}'s", "data", "inspect", self.dir / "out", "--tokenizer", V3)
        shard.unlink()
        self.refused("cannot be opened", *inspect)
        self.refused("has no dataset.json", "data", "inspect", self.dir)
        self.refused("is no shard of `hadal data build`", "data", "inspect", WIKI)
        self.refused("number 9 was asked for", "data", "inspect", self.fresh(), "--document", 9, "--tokenizer", MINI)

    def fresh(self):
        self.build(WIKI, out="fresh")
        return self.dir / "fresh"

    def test_a_full_disk_leaves_what_was_there(self):
        t = self.file("t", "Hello.")
        self.build(t)
        before = self.tree("out")
        big = self.file("big", "".join(f"Line number {i}.\n" for i in range(60000)))
        # A limit on file size stands for a full disk (in units of 512 or 1024 bytes).
        command = [HADAL, "data", "build", str(self.dir / "out"), "--tokenizer", MINI, str(big), "--documents", "lines", "--overwrite"]
        for limit in ("1", "2100"):
            p = subprocess.run(["sh", "-c", f'ulimit -f {limit}; exec "$@"', "sh", *command], capture_output=True)
            self.assertEqual((p.returncode, p.stderr.count(b"\n")), (2, 1), p.stderr)
            self.assertIn(b"File too large", p.stderr)
            self.assertEqual(self.tree("out"), before)
            self.no_rests()

    def test_interrupted_and_killed(self):
        t = self.file("t", "Hello.")
        self.build(t)
        before = self.tree("out")
        big = self.file("big", "".join(f"Line number {i}.\n" for i in range(2000000)))
        command = [HADAL, "data", "build", str(self.dir / "out"), "--tokenizer", MINI, str(big), "--documents", "lines", "--overwrite", "--threads", "1"]
        for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)):
            p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while not list(self.dir.glob("out.partial/*.tokens*")) and p.poll() is None:
                time.sleep(0.002)
            if how == signal.SIGINT:
                self.refused("another run works on it", *command[1:])
            p.send_signal(how)
            said = p.communicate()
            self.assertEqual(p.returncode, code, said)
            self.assertEqual(self.tree("out"), before)
            if how != signal.SIGKILL:
                self.assertEqual(said[1], b"hadal: data build: interrupted, nothing was changed\n")
                self.no_rests()
        # What a killed run left is no hindrance.
        self.build(t, "--overwrite", "--seed", "3")
        self.no_rests()

    @staticmethod
    def peak(pid):
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])

    def test_memory_does_not_grow_with_the_input(self):
        peaks = []
        for lines in (200000, 800000):
            big = self.file("big", "".join(f"{i} is a number of a line that is as long as others.\n" for i in range(lines)))
            command = [HADAL, "data", "build", str(self.dir / f"o{lines}"), "--tokenizer", MINI, str(big), "--documents", "lines", "--threads", "1"]
            p = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(p.returncode, 0)
            peaks.append(usage.ru_maxrss / 1024)
        # What may grow: eight bytes a document in the index of the open shard, and the hashes' file as far as the system leaves it in memory.
        self.assertLess(peaks[1] - peaks[0], (800000 - 200000) * (8 + 8 + 64) / 1e6 + 8, peaks)


class Megatron(Data):
    def test_export_and_import(self):
        lines = self.file("t", "".join(f"Line {i} has {'many ' * (i % 7)}words.\n" for i in range(500)))
        self.build(lines, "--documents", "lines", "--validation", "0.2", "--shard-size", "4KB")
        said = self.ok("data", "export", self.dir / "out", self.dir / "m").decode()
        train = json.loads((self.dir / "out/dataset.json").read_text())["sources"][0]["train"]
        self.assertGreater(len(train["shards"]), 1)
        self.assertIn(f"{train['documents']} documents", said)
        idx = (self.dir / "m.idx").read_bytes()
        self.assertEqual(struct.unpack_from("<9sQBQQ", idx), (b"MMIDIDX\0\0", 1, 8, train["documents"], train["documents"] + 1))
        self.assertEqual((self.dir / "m.bin").stat().st_size, 2 * train["tokens"])
        self.refused("m.bin: exists already; remove it or name another prefix", "data", "export", self.dir / "out", self.dir / "m")
        back = json.loads(self.ok("data", "import", self.dir / "back", "--tokenizer", MINI, self.dir / "m", "--json"))
        s = back["sources"][0]
        self.assertEqual((s["name"], s["train"]["documents"], s["train"]["tokens"], back["eos"]), ("imported", train["documents"], train["tokens"], 1))
        self.assertEqual(self.document(7, out="back"), self.document(7))
        self.ok("data", "export", self.dir / "back", self.dir / "again")
        for e in (".bin", ".idx"):
            self.assertEqual((self.dir / ("again" + e)).read_bytes(), (self.dir / ("m" + e)).read_bytes())
        report = json.loads(self.ok("data", "inspect", self.dir / "m.idx", "--json"))
        self.assertEqual(report, {"kind": "Megatron", "dtype": "U16", "sequences": train["documents"], "documents": train["documents"], "tokens": train["tokens"]})

    def test_megatrons_own_files(self):
        expected = json.loads((DATA / "megatron/documents.json").read_text())
        for name in ("uint8", "int8", "int16", "int32", "int64", "uint16", "several", "multimodal"):
            out = self.dir / name
            self.ok("data", "import", out, "--tokenizer", MINI, "--source", f"s={DATA}/megatron/{name}.bin,weight=2", "--keep-duplicates")
            documents = [d for d in expected[name] if d]
            self.assertEqual(json.loads((out / "dataset.json").read_text())["sources"][0]["train"]["documents"], len(documents))
            for i, ids in enumerate(documents):
                shown = self.ok("data", "inspect", out, "--document", i, "--tokenizer", MINI)
                self.assertEqual(shown, self.ok("tokenizer", "decode", MINI, stdin=json.dumps(ids)))

    def test_refusals(self):
        imp = lambda fragment, *prefixes: self.refused(fragment, "data", "import", self.dir / "i", "--tokenizer", MINI, *prefixes)
        imp("nothing to build from")
        imp("cannot be opened", self.dir / "none")
        imp("holds 65499 at [2], ids are below vocab_size 4096", DATA / "megatron/wide")
        for e in (".bin", ".idx"):
            shutil.copy(DATA / f"megatron/int32{e}", self.dir / f"x{e}")
        (self.dir / "x.bin").write_bytes((self.dir / "x.bin").read_bytes()[:-1])
        imp("x.idx: sequence 3 has 1 tokens at byte 52, beyond the .bin file's 55 bytes", self.dir / "x")
        (self.dir / "x.idx").write_bytes(b"MMIDIDX\0\0" + bytes(25))
        imp("x.idx: has version 0", self.dir / "x")
        self.assertFalse((self.dir / "i").exists())
        self.build(WIKI)
        self.refused("source text has no validation tokens", "data", "export", self.dir / "out", self.dir / "m", "--split", "validation")
        self.refused("has no source x; there is text", "data", "export", self.dir / "out", self.dir / "m", "--source", "x")
        self.refused("cannot be written", "data", "export", self.dir / "out", "/no/such/dir/m")
        self.assertFalse((self.dir / "m.bin").exists())
        self.no_rests()


main()
