/** Colours of runs, told apart by colour-blind readers too (after Okabe and Ito, darkened for white paper). */
export const RUN_COLOURS = ['var(--c1)', 'var(--c2)', 'var(--c3)', 'var(--c4)', 'var(--c5)', 'var(--c6)'];

/** Colour of one of several ordered loads, from the first to the last. */
export function rampColour(index: number, count: number): string {
  const share = count < 2 ? 0 : index / (count - 1);
  return `hsl(${Math.round(215 + share * 130)} 70% var(--ramp-light))`;
}

/** The page's style: light or dark as the system is, or as the reader chose. */
export const STYLE = `
:root{color-scheme:light;--paper:#fff;--panel:#f6f7f9;--line:#dfe3e8;--ink:#1a2027;--soft:#5c6773;--c1:#0b66c3;--c2:#d1570a;--c3:#12805c;--c4:#a3337f;--c5:#8a6d00;--c6:#3c4a9a;--bad:#b3261e;--good:#12805c;--ramp-light:42%}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;--paper:#12161b;--panel:#1a2027;--line:#2e3741;--ink:#e8ecf0;--soft:#9aa6b2;--c1:#5ab0ff;--c2:#ff9d57;--c3:#4ccf9f;--c4:#e58ac6;--c5:#e3c54a;--c6:#9aa8ff;--bad:#ff8a80;--good:#4ccf9f;--ramp-light:68%}}
:root[data-theme=dark]{color-scheme:dark;--paper:#12161b;--panel:#1a2027;--line:#2e3741;--ink:#e8ecf0;--soft:#9aa6b2;--c1:#5ab0ff;--c2:#ff9d57;--c3:#4ccf9f;--c4:#e58ac6;--c5:#e3c54a;--c6:#9aa8ff;--bad:#ff8a80;--good:#4ccf9f;--ramp-light:68%}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:28px 24px 60px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
header{display:flex;gap:16px;align-items:flex-start;justify-content:space-between;margin-bottom:8px}
h1{font-size:24px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:18px;margin:36px 0 12px}
p{margin:0 0 6px}.soft,.empty{color:var(--soft)}
button{font:inherit;color:var(--soft);background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:4px 12px;cursor:pointer;white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.card{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.card b{display:block;font-size:22px;line-height:1.3;font-weight:650}.card span{color:var(--soft);font-size:13px}
.card.bad b{color:var(--bad)}.card.good b{color:var(--good)}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:16px}
figure{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px 14px 10px;min-width:0}
figcaption b{display:block}figcaption span{color:var(--soft);font-size:13px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 0 0;padding:0;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:16px;height:0;border-top:2.5px solid var(--colour);margin-right:6px;vertical-align:middle}
.legend i.dash{border-top-style:dashed}.legend i.dot{width:8px;height:8px;border:0;border-radius:50%;background:var(--colour)}
.plot{position:relative}svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:11px}svg text.title{font-size:11.5px}svg text.limit{fill:var(--bad)}
svg .grid{stroke:var(--line)}svg .axis{stroke:var(--soft)}svg .limit{stroke:var(--bad);stroke-dasharray:2 3}svg text.limit{stroke:none}
svg .cursor{stroke:var(--soft);stroke-dasharray:2 2;visibility:hidden}
.curve path{fill:none;stroke:var(--colour);stroke-width:2;stroke-linejoin:round}.curve.dashed path{stroke-dasharray:6 4}
.curve path.area{fill:var(--colour);opacity:.13;stroke:none}.curve circle{fill:var(--colour);stroke:var(--panel);stroke-width:1}
.dots circle{fill:var(--colour);opacity:.55}
.tip{position:absolute;pointer-events:none;background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:6px 10px;font-size:12.5px;box-shadow:0 4px 14px rgb(0 0 0/.18);white-space:nowrap;z-index:2}
.tip div::before{content:"";display:inline-block;width:8px;height:8px;border-radius:50%;background:var(--colour);margin-right:6px}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;margin:12px 0}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{padding:7px 9px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child,td.text{text-align:left}td.text{white-space:normal;overflow-wrap:anywhere}
th{background:var(--panel);color:var(--soft);font-weight:600}tr:last-child td{border-bottom:0}
td i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px;background:var(--colour)}
.bad{color:var(--bad)}.note{border-left:3px solid var(--c5);padding:2px 0 2px 12px;margin:6px 0;color:var(--soft)}
.tabs{display:flex;flex-wrap:wrap;gap:6px;margin:12px 0}.tabs label{border:1px solid var(--line);background:var(--panel);border-radius:8px;padding:4px 14px;cursor:pointer;color:var(--soft)}
.tabs input{position:absolute;opacity:0}.tabs input:checked+span{color:var(--ink);font-weight:650}.tabs label:has(:checked){border-color:var(--c1)}.tabs label:focus-within{outline:2px solid var(--c1)}
details{margin-top:28px}summary{cursor:pointer;color:var(--soft)}pre{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px;overflow:auto;font-size:12.5px}
@media print{button,.tabs{display:none}.load[hidden]{display:block!important}figure{break-inside:avoid}}
`;

/** The page's script: theme, choice of a load, values at the pointer. Without it everything is still there. */
export const SCRIPT = `
const root=document.documentElement;
document.getElementById('theme').addEventListener('click',()=>{const dark=root.dataset.theme?root.dataset.theme==='dark':matchMedia('(prefers-color-scheme:dark)').matches;root.dataset.theme=dark?'light':'dark'});
const loads=[...document.querySelectorAll('.load')];
const show=(index)=>loads.forEach((each,at)=>{each.hidden=at!==index});
document.querySelectorAll('.tabs input').forEach((input,index)=>input.addEventListener('change',()=>show(index)));
if(loads.length>1)show(0);
for(const plot of document.querySelectorAll('.plot')){
  const svg=plot.querySelector('svg'),cursor=svg.querySelector('.cursor'),series=JSON.parse(plot.querySelector('script').textContent);
  const tip=document.createElement('div');tip.className='tip';tip.hidden=true;plot.append(tip);
  if(series.every(({points})=>points.length===0))continue;
  svg.addEventListener('pointerleave',()=>{tip.hidden=true;cursor.style.visibility='hidden'});
  svg.addEventListener('pointermove',(event)=>{
    const box=svg.getBoundingClientRect(),scale=box.width/svg.viewBox.baseVal.width,x=(event.clientX-box.left)/scale;
    const near=(points)=>points.reduce((best,each)=>best===null||Math.abs(each[0]-x)<Math.abs(best[0]-x)?each:best,null);
    const found=series.map(({name,colour,points})=>({name,colour,point:near(points)})).filter(({point})=>point&&Math.abs(point[0]-x)<40);
    if(found.length===0){tip.hidden=true;cursor.style.visibility='hidden';return}
    const at=found.reduce((best,each)=>Math.abs(each.point[0]-x)<Math.abs(best.point[0]-x)?each:best).point;
    cursor.setAttribute('x1',at[0]);cursor.setAttribute('x2',at[0]);cursor.style.visibility='visible';
    tip.replaceChildren(...found.map(({name,colour,point})=>{const line=document.createElement('div');line.style.setProperty('--colour',colour);line.textContent=(series.length>1?name+': ':'')+point[3]+' at '+point[2];return line}));
    tip.hidden=false;
    const left=at[0]*scale;tip.style.top='8px';tip.style.left=left>box.width/2?'':left+12+'px';tip.style.right=left>box.width/2?box.width-left+12+'px':'';
  });
}
`;
