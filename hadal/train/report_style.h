// The look of report.html: light or dark as the reader's system is, one column on a phone.
#pragma once

namespace hadal::train {

inline constexpr const char* kReportStyle = R"(
:root{color-scheme:light dark;--back:#fff;--card:#f6f7f9;--text:#1b1f24;--faint:#5b6570;--rule:#d9dee4;--grid:#e3e7ec;
--c0:#1f5fa8;--c1:#c4521a;--c2:#2c7a4b;--c3:#8a3ba3;--c4:#a6303f;--c5:#0f7f8a;--c6:#7a6210;--c7:#5a5f69;
--d0:#8e0f7a;--d1:#2166ac;--d2:#6aa7d0;--d3:#bcd8ea;--d4:#e4e6e9;--d5:#f8cf9e;--d6:#ec8740;--d7:#b1410c;
--q0:#eaf1f8;--q1:#c9deef;--q2:#9fc5e3;--q3:#6ba6d3;--q4:#3d84bf;--q5:#1d5f9e;--q6:#0b3a6b}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--card:#1d2125;--text:#e4e8ec;--faint:#9aa5b1;--rule:#343b43;--grid:#2b3138;
--c0:#6db1f5;--c1:#f2935c;--c2:#6cc98d;--c3:#cf93e6;--c4:#f0818e;--c5:#57c7d2;--c6:#d6bb55;--c7:#a9b0ba;
--d0:#ff6fe3;--d1:#62b6f7;--d2:#3f86b8;--d3:#36566d;--d4:#3b4046;--d5:#7a5932;--d6:#c4742f;--d7:#ffad5e;
--q0:#232b33;--q1:#28405a;--q2:#2c567f;--q3:#3470a6;--q4:#4a8fca;--q5:#7bb4e6;--q6:#c2e0fb}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1440px;padding:1rem clamp(.75rem,3vw,2rem) 3rem;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:.2rem 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:2rem 0 .6rem}h3{font-size:1rem;margin:0}
small,.faint{color:var(--faint);font-weight:400;font-size:.85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:.6rem;margin:1rem 0}
.tiles div,figure,details,.sample{background:var(--card);border:1px solid var(--rule);border-radius:8px}
.tiles div{padding:.5rem .75rem}.tiles dt{color:var(--faint);font-size:.8rem}.tiles dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:.8rem}
figure{margin:0;padding:.6rem .6rem .2rem}figcaption{padding:0 .3rem}svg{display:block;width:100%;height:auto}
.keys{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem;color:var(--faint);min-height:1.5em}.key{white-space:nowrap}.key b{color:var(--text);font-weight:600;font-variant-numeric:tabular-nums}
.key i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em;vertical-align:-.08em}
.tick{font-size:12px;fill:var(--faint)}.grid{stroke:var(--grid);fill:none}.mark{stroke:var(--c4);stroke-dasharray:3 3;fill:none}
.line{fill:none;stroke-width:1.6;stroke-linejoin:round}.band{opacity:.22}.cells{width:auto;height:auto;shape-rendering:crispEdges}
.switch{margin:0 0 .6rem;display:block}input[name=steps]{margin:0 .3rem 0 0}label{margin-right:1rem}
#log:checked~main svg.lin,#lin:checked~main svg.log{display:none}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}th{color:var(--faint);font-weight:600}
details{padding:.5rem .8rem;margin:.6rem 0}summary{cursor:pointer;font-weight:600}
pre{margin:.4rem 0;white-space:pre-wrap;overflow-wrap:anywhere;font:.85rem/1.45 ui-monospace,monospace}
.sample{padding:.4rem .8rem;margin:.6rem 0}.sample b{color:var(--c0)}ul{padding-left:1.2rem}li{overflow-wrap:anywhere}
.s0{stroke:var(--c0)}.f0{fill:var(--c0)}.k0{background:var(--c0)}.d0{fill:var(--d0);background:var(--d0)}
.s1{stroke:var(--c1)}.f1{fill:var(--c1)}.k1{background:var(--c1)}.d1{fill:var(--d1);background:var(--d1)}
.s2{stroke:var(--c2)}.f2{fill:var(--c2)}.k2{background:var(--c2)}.d2{fill:var(--d2);background:var(--d2)}
.s3{stroke:var(--c3)}.f3{fill:var(--c3)}.k3{background:var(--c3)}.d3{fill:var(--d3);background:var(--d3)}
.s4{stroke:var(--c4)}.f4{fill:var(--c4)}.k4{background:var(--c4)}.d4{fill:var(--d4);background:var(--d4)}
.s5{stroke:var(--c5)}.f5{fill:var(--c5)}.k5{background:var(--c5)}.d5{fill:var(--d5);background:var(--d5)}
.s6{stroke:var(--c6)}.f6{fill:var(--c6)}.k6{background:var(--c6)}.d6{fill:var(--d6);background:var(--d6)}
.s7{stroke:var(--c7)}.f7{fill:var(--c7)}.k7{background:var(--c7)}.d7{fill:var(--d7);background:var(--d7)}
.q0{fill:var(--q0);background:var(--q0)}
.q1{fill:var(--q1);background:var(--q1)}
.q2{fill:var(--q2);background:var(--q2)}
.q3{fill:var(--q3);background:var(--q3)}
.q4{fill:var(--q4);background:var(--q4)}
.q5{fill:var(--q5);background:var(--q5)}
.q6{fill:var(--q6);background:var(--q6)}
@media print{.switch,input[name=steps],label{display:none}figure{break-inside:avoid}}
)";

}  // namespace hadal::train
