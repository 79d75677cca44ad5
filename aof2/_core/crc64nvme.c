/* placeholder: slicing by 8 */
#include "crc64nvme.h"
#include <string.h>
static uint64_t T[8][256]; static int ready;
static void init(void){ for(int i=0;i<256;i++){uint64_t c=i;for(int k=0;k<8;k++)c=(c&1)?(c>>1)^0x9A6C9329AC4BC9B5ULL:c>>1;T[0][i]=c;}
 for(int i=0;i<256;i++){uint64_t c=T[0][i];for(int s=1;s<8;s++){c=T[0][c&255]^(c>>8);T[s][i]=c;}} ready=1;}
uint64_t aof2_crc64(uint64_t crc,const void*data,size_t n){ const unsigned char*p=data; if(!ready)init(); crc=~crc;
 while(n>=8){uint64_t v;memcpy(&v,p,8);v^=crc;crc=T[7][v&255]^T[6][(v>>8)&255]^T[5][(v>>16)&255]^T[4][(v>>24)&255]^T[3][(v>>32)&255]^T[2][(v>>40)&255]^T[1][(v>>48)&255]^T[0][v>>56];p+=8;n-=8;}
 while(n--)crc=T[0][(crc^*p++)&255]^(crc>>8); return ~crc;}
