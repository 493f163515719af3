// Shows the cells that have every word of the filter, and whose outcome and status are ticked.
const cells = [...document.querySelectorAll('details.cell')], filter = document.getElementById('filter');
const boxes = [...document.querySelectorAll('.filters input[type=checkbox]')];
const names = cells.map(cell => cell.querySelector('summary').textContent.toLowerCase());
function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const off = new Set(boxes.filter(box => !box.checked).map(box => box.value));
  let count = 0;
  cells.forEach((cell, at) => {
    const {outcome, status} = cell.dataset;
    const fits = !off.has(outcome) && !off.has(status) && words.every(word => names[at].includes(word));
    cell.hidden = !fits;
    count += fits;
  });
  document.getElementById('shown').textContent = count + ' of ' + cells.length + ' shown';
}
// Opens the cell that is linked to. One that the filter hides was asked for by name: the filter goes.
function go(id) {
  const cell = document.getElementById(id);
  if (!cell || !cell.matches('details.cell')) return;
  if (cell.hidden) {
    filter.value = '';
    boxes.forEach(box => box.checked = true);
    show();
  }
  cell.open = true;
  cell.scrollIntoView();
  cell.querySelector('summary').focus();
}
// An address is anybody's text, and ids have no characters that are written otherwise in it.
function linked() { go(location.hash.slice(1)); }
filter.addEventListener('input', show);
boxes.forEach(box => box.addEventListener('change', show));
addEventListener('hashchange', linked);
// The same link again changes no address.
document.addEventListener('click', event => {
  const link = event.target.closest('.grid a');
  if (link) go(link.hash.slice(1));
});
show();
linked();
