"""What TensorBoard shows of a run, as JSON: HOW FOLDER [wait]. HOW: accumulator (its Python reader), fast and slow (the
page's two servers). With wait it reads, says so, and reads again after a line of input."""
import html, json, math, re, sys, time, urllib.parse, urllib.request


def number(value):
    """Null for what JSON has not; the page says it in words ("Infinity")."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def from_markdown(text):
    """Of a block of code."""
    lines = text.split("\n")
    assert all(line.startswith("    ") for line in lines), text
    return "\n".join(line[4:] for line in lines)


def from_html(text):
    """As the page shows it: a block of code and nothing else."""
    return html.unescape(re.fullmatch(r"<pre><code>([^<]*)\n</code></pre>", text).group(1))


def by_accumulator(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})

    def read():
        reader.Reload()
        tags = reader.Tags()
        scalars = {tag: [[e.step, number(e.value)] for e in reader.Scalars(tag)] for tag in tags["scalars"]}
        texts = {tag: [[e.step, from_markdown(e.tensor_proto.string_val[0].decode())] for e in reader.Tensors(tag)] for tag in tags["tensors"]}
        return {"scalars": {t: v for t, v in scalars.items() if v}, "texts": {t: v for t, v in texts.items() if v}}

    return read


def by_page(folder, fast):
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(argv=["tensorboard", "--logdir", folder, "--port", "0", "--load_fast", fast, "--reload_interval", "1"])
    url = board.launch()

    def get(path, **query):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}data/plugin/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.loads(answer.read())

    def once():
        scalars = {tag: [[step, number(value)] for _, step, value in get("scalars/scalars", run=".", tag=tag)] for tag in get("scalars/tags").get(".", {})}
        texts = {tag: [[e["step"], from_html(e["text"])] for e in get("text/text", run=".", tag=tag)] for tag in get("text/tags").get(".", [])}
        return {"scalars": {t: v for t, v in scalars.items() if v}, "texts": {t: v for t, v in texts.items() if v}}

    def read():
        """It loads in the background: until nothing new comes for some seconds."""
        last, since = once(), time.monotonic()
        while time.monotonic() - since < 4 or not last["scalars"]:
            time.sleep(0.5)
            seen = once()
            if seen != last:
                last, since = seen, time.monotonic()
        return last

    return read


how, folder = sys.argv[1:3]
read = by_accumulator(folder) if how == "accumulator" else by_page(folder, {"fast": "true", "slow": "false"}[how])
out = read()
if sys.argv[3:]:
    print("read", flush=True)
    sys.stdin.readline()
    out = read()
print(json.dumps(out))
